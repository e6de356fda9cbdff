#!/usr/bin/env bash
# What the bundle does on a fresh Debian 13, written down once for one site by somebody in a hurry: no check before, no
# second run, no diff. `make bench-deploy` runs it over SSH, as root, to have something to compare with.
#
#   by_hand.sh warm         fill the caches of apt and pip, on a host that is thrown away
#   by_hand.sh deploy       everything, from /tmp/by-hand/{project.tar.gz,kafka.tar} and $SITE_DOMAIN
#   by_hand.sh release      another version of the project, from /tmp/by-hand/project.tar.gz
set -euo pipefail

site=graphspace
files=/tmp/by-hand
packages=(acl ca-certificates curl python3-venv rsync systemd-timesyncd tzdata
  zookeeper default-jre-headless python3-confluent-kafka apache2 libapache2-mod-wsgi-py3
  libapache2-mod-qos libapache2-mod-security2 nftables)
hardening="CapabilityBoundingSet=
LockPersonality=true
NoNewPrivileges=true
PrivateDevices=true
PrivateTmp=true
ProtectClock=true
ProtectControlGroups=true
ProtectHome=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
SystemCallArchitectures=native
SystemCallFilter=@system-service"

wait_for_port() { # port, seconds
  for ((i = 0; i < $2 * 10; i++)); do
    if (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
      return
    fi
    sleep 0.1
  done
  echo "nothing listens on port $1 after $2 s" >&2
  return 1
}

base() {
  ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime
  echo LANG=C.UTF-8 >/etc/default/locale
  printf '* - nofile 16384\nroot - nofile 16384\n' >/etc/security/limits.d/90-by-hand.conf
  mkdir -p /etc/systemd/journald.conf.d
  printf '[Journal]\nStorage=persistent\nSystemMaxUse=500M\n' >/etc/systemd/journald.conf.d/90-by-hand.conf
  systemctl restart systemd-journald
  systemctl enable -q systemd-timesyncd
}

zookeeper() {
  install -d -o zookeeper -g zookeeper -m 0750 /var/lib/zookeeper/data
  echo 1 >/var/lib/zookeeper/data/myid
  cat >/etc/zookeeper/zoo.cfg <<END
4lw.commands.whitelist=srvr,mntr,ruok
admin.enableServer=false
autopurge.purgeInterval=24
autopurge.snapRetainCount=3
clientPort=2181
clientPortAddress=127.0.0.1
dataDir=/var/lib/zookeeper/data
initLimit=10
maxClientCnxns=60
syncLimit=5
tickTime=2000
END
  cat >/etc/systemd/system/zookeeper.service <<END
[Unit]
Description=ZooKeeper
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0
[Service]
User=zookeeper
Group=zookeeper
ExecStart=/usr/bin/java -server -Xms256m -Xmx256m -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \\
  -Dorg.slf4j.simpleLogger.defaultLogLevel=info -cp /usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar \\
  org.apache.zookeeper.server.quorum.QuorumPeerMain /etc/zookeeper/zoo.cfg
Restart=always
RestartSec=2
SuccessExitStatus=143
LimitNOFILE=8192
UMask=0027
ReadWritePaths=/var/lib/zookeeper/data
$hardening
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable -q --now zookeeper
  wait_for_port 2181 60
}

kafka() {
  useradd --system --home-dir /var/lib/kafka --shell /usr/sbin/nologin kafka
  install -d -o kafka -g kafka -m 0750 /var/lib/kafka
  mkdir -p /opt/kafka /etc/kafka
  tar -xf "$files/kafka.tar" -C /opt/kafka --no-same-owner
  local folder
  folder=$(basename /opt/kafka/kafka_*)
  ln -sfn "$folder" /opt/kafka/current
  cat >/etc/kafka/server.properties <<END
auto.create.topics.enable=false
broker.id=1
listeners=PLAINTEXT://127.0.0.1:9092
log.dirs=/var/lib/kafka
offsets.topic.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.replication.factor=1
zookeeper.connect=127.0.0.1:2181
END
  cat >/etc/kafka/log4j.properties <<END
log4j.rootLogger=INFO, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=%p %m (%c)%n
END
  local heap=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 4096))
  if ((heap > 6144)); then
    heap=6144
  fi
  cat >/etc/systemd/system/kafka.service <<END
[Unit]
Description=Kafka
After=network-online.target zookeeper.service
Wants=network-online.target zookeeper.service
StartLimitIntervalSec=0
[Service]
User=kafka
Group=kafka
ExecStart=/usr/bin/java -server -Xms${heap}m -Xmx${heap}m -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \\
  -Dlog4j.configuration=file:/etc/kafka/log4j.properties -cp "/opt/kafka/current/libs/*" kafka.Kafka /etc/kafka/server.properties
Restart=always
RestartSec=2
SuccessExitStatus=143
TimeoutStopSec=300
LimitNOFILE=16384
UMask=0027
ReadWritePaths=/var/lib/kafka
$hardening
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable -q --now kafka
  wait_for_port 9092 90
  local tool class
  while read -r tool class; do
    printf '#!/bin/sh\nexec java -Xmx256m -cp "/opt/kafka/current/libs/*" %s "$@"\n' "$class" >"/usr/local/bin/$tool"
    chmod 0755 "/usr/local/bin/$tool"
  done <<END
kafka-configs.sh kafka.admin.ConfigCommand
kafka-console-consumer.sh org.apache.kafka.tools.consumer.ConsoleConsumer
kafka-console-producer.sh kafka.tools.ConsoleProducer
kafka-consumer-groups.sh org.apache.kafka.tools.consumer.group.ConsumerGroupCommand
kafka-topics.sh org.apache.kafka.tools.TopicCommand
END
  kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --create --topic "$site.group" --partitions 3 --replication-factor 1 >/dev/null
}

environment() {
  useradd --system --user-group --home-dir "/srv/$site" --shell /usr/sbin/nologin "$site"
  install -d -m 0755 "/srv/$site" "/srv/$site/releases"
  install -d -o "$site" -g "$site" -m 0750 "/srv/$site/data"
  install -d -g "$site" -m 0750 "/etc/switchboard/$site"
  local key
  key=$(tr -dc A-Za-z0-9 </dev/urandom | head -c 64 || true)
  (
    umask 027
    cat >"/etc/switchboard/$site/settings.env" <<END
DJANGO_ALLOWED_HOSTS=$SITE_DOMAIN
DJANGO_DATABASE=/srv/$site/data/$site.sqlite3
DJANGO_SECRET_KEY=$key
DJANGO_SETTINGS_MODULE=graphspace.settings
DJANGO_STATIC_ROOT=/srv/$site/current/static
DJANGO_TLS=0
KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092
KAFKA_TOPIC_PREFIX=$site.
END
  )
  chgrp "$site" "/etc/switchboard/$site/settings.env"
}

manage() { # release, words
  local release=$1
  shift
  (
    cd "$release/app"
    set -a
    # shellcheck disable=SC1090  # written above
    . "/etc/switchboard/$site/settings.env"
    export DJANGO_STATIC_ROOT="$release/static"
    set +a
    setpriv --reuid "$site" --regid "$site" --clear-groups "$release/venv/bin/python" manage.py "$@" >/dev/null
  )
}

release() {
  local path lock
  path="/srv/$site/releases/$(sha256sum "$files/project.tar.gz" | cut -c1-12)"
  mkdir -p "$path/app"
  tar -xzf "$files/project.tar.gz" -C "$path/app" --no-same-owner
  chgrp -R "$site" "$path/app"
  chmod -R g=rX,o= "$path/app"
  lock=$(sha256sum "$path/app/requirements.txt" | cut -c1-12)
  if [ ! -e "/srv/$site/venvs/$lock/.complete" ]; then
    python3 -m venv "/srv/$site/venvs/$lock"
    "/srv/$site/venvs/$lock/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
      --only-binary=:all: -r "$path/app/requirements.txt"
    touch "/srv/$site/venvs/$lock/.complete"
  fi
  ln -s "../../venvs/$lock" "$path/venv"
  "$path/venv/bin/python" -m compileall -q "$path/app"
  install -d -o "$site" -g "$site" "$path/static"
  manage "$path" check --deploy --fail-level ERROR >/dev/null 2>&1
  manage "$path" collectstatic --noinput
  manage "$path" migrate --noinput
  chown -R root:root "$path/static"
  cat >"$path/wsgi.py" <<END
import os, sys
for line in open("/etc/switchboard/$site/settings.env"):
    name, _, value = line.rstrip().partition("=")
    os.environ[name] = value
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "app"))
from graphspace.wsgi import application
END
  ln -sfn "releases/$(basename "$path")" "/srv/$site/.current"
  mv -T "/srv/$site/.current" "/srv/$site/current"
}

daphne() {
  cat >"/etc/systemd/system/daphne-$site.socket" <<END
[Socket]
ListenStream=127.0.0.1:9099
Backlog=1024
NoDelay=true
Service=daphne-$site@1.service
TriggerLimitIntervalSec=0
[Install]
WantedBy=sockets.target
END
  cat >"/etc/systemd/system/daphne-$site@.service" <<END
[Unit]
After=network.target daphne-$site.socket
Requires=daphne-$site.socket
StartLimitIntervalSec=0
[Service]
User=$site
Group=$site
WorkingDirectory=/srv/$site/current/app
EnvironmentFile=/etc/switchboard/$site/settings.env
Environment=PYTHONDONTWRITEBYTECODE=1
Sockets=daphne-$site.socket
ExecStart=/srv/$site/current/venv/bin/python -m daphne --fd 3 --verbosity 0 --ping-interval 20 --ping-timeout 30 \\
  --websocket_connect_timeout 5 --proxy-headers graphspace.asgi:application
Restart=always
RestartSec=2
LimitNOFILE=16384
UMask=0027
ReadWritePaths=/srv/$site/data
$hardening
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable -q --now "daphne-$site.socket" "daphne-$site@1.service" "daphne-$site@2.service"
}

# 101 or 403 on a handshake: Daphne serves.
handshake() { # port
  local status
  for _ in $(seq 300); do
    status=$(curl -s -o /dev/null -w '%{http_code}' --max-time 3 --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
      -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==' -H "Host: $SITE_DOMAIN" \
      -H "Origin: http://$SITE_DOMAIN" "http://127.0.0.1:$1/ws/notifications/" || true)
    case $status in 101 | 403) return ;; esac
    sleep 0.1
  done
  echo "a handshake on port $1 got $status" >&2
  return 1
}

guard() {
  cat >/etc/switchboard-ports.nft <<END
table inet by_hand {
    chain output {
        type filter hook output priority filter; policy accept;
        oif "lo" tcp dport 9099 meta skuid != { root, www-data } reject with tcp reset
    }
}
END
  cat >/etc/systemd/system/by-hand-ports.service <<END
[Unit]
Before=sockets.target
[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=/usr/sbin/nft --file /etc/switchboard-ports.nft
[Install]
WantedBy=sockets.target
END
  systemctl enable -q --now by-hand-ports.service
}

apache() {
  a2enmod -q mpm_event wsgi alias dir env mime setenvif reqtimeout rewrite headers remoteip proxy proxy_http proxy_wstunnel \
    qos security2 unique_id asis
  a2dismod -q -f autoindex status
  mkdir -p /etc/systemd/system/apache2.service.d
  cat >/etc/systemd/system/apache2.service.d/by-hand.conf <<END
[Service]
LimitNOFILE=8192
TasksMax=8192
END
  cat >/etc/apache2/conf-available/zz-by-hand.conf <<END
ServerLimit 12
ThreadLimit 512
StartServers 3
ThreadsPerChild 512
MaxRequestWorkers 1536
MinSpareThreads 512
MaxSpareThreads 1536
MaxConnectionsPerChild 0
ServerTokens Prod
ServerSignature Off
TraceEnable Off
ServerName localhost
WSGIRestrictEmbedded On
SecRuleEngine On
SecRequestBodyAccess On
SecRequestBodyInMemoryLimit 131072
SecResponseBodyAccess Off
SecAuditEngine Off
QS_ErrorResponseCode 503
QS_SrvMaxConnPerIP 256
END
  cat >/etc/apache2/sites-available/000-catch-all.conf <<END
<VirtualHost *:80>
    ServerName catch-all.invalid
    RewriteEngine On
    RewriteRule ^ - [R=421,L]
</VirtualHost>
END
  cat >"/etc/apache2/sites-available/$site.conf" <<END
<VirtualHost *:80>
    ServerName $SITE_DOMAIN
    ErrorLog \${APACHE_LOG_DIR}/$site-error.log
    CustomLog \${APACHE_LOG_DIR}/$site-access.log combined
    AllowEncodedSlashes NoDecode
    ProxyPreserveHost On
    ProxyAddHeaders Off
    RequestHeader set X-Forwarded-For "expr=%{REMOTE_ADDR}"
    RequestHeader set X-Forwarded-Proto "expr=%{REQUEST_SCHEME}"
    RequestHeader unset Daphne-Root-Path
    RequestHeader unset Forwarded
    <Proxy "ws://127.0.0.1:9099">
        ProxySet retry=0 disablereuse=On timeout=60 connectiontimeout=5
    </Proxy>
    RewriteEngine On
    RewriteCond %{REQUEST_METHOD} !=GET [OR]
    RewriteCond %{HTTP:Upgrade} !^websocket\$ [NC,OR]
    RewriteCond %{HTTP:Connection} !(^|,)\\s*upgrade\\s*(,|\$) [NC,OR]
    RewriteCond %{HTTP:Sec-WebSocket-Version} !=13
    RewriteRule ^/ws/ - [R=426,L]
    RewriteCond %{HTTP:Sec-WebSocket-Key} !^[A-Za-z0-9+/]{22}==\$ [OR]
    RewriteCond %{HTTP:Content-Length}%{HTTP:Transfer-Encoding} .
    RewriteRule ^/ws/ - [R=400,L]
    RewriteCond %{HTTP:Origin} !=http://$SITE_DOMAIN [NC]
    RewriteRule ^/ws/ - [R=403,L]
    RewriteCond %{THE_REQUEST} "^GET (/ws/[^ ?]*)(?:\\?[^ ]*)? HTTP/1\\.1\$"
    RewriteRule ^/ws/ ws://127.0.0.1:9099%1 [P,NE,L]
    RewriteRule ^/ws/ - [R=400,L]
    Alias /static/ /srv/$site/current/static/
    <Directory /srv/$site/current/static>
        Require all granted
    </Directory>
    WSGIDaemonProcess $site display-name=%{GROUP} user=$site group=$site umask=0027 processes=2 threads=15 \\
        python-home=/srv/$site/current/venv home=/srv/$site lang=C.UTF-8 locale=C.UTF-8 \\
        queue-timeout=45 request-timeout=60 deadlock-timeout=60 graceful-timeout=15 shutdown-timeout=5
    WSGIProcessGroup $site
    WSGIApplicationGroup %{GLOBAL}
    WSGIScriptAlias / /srv/$site/current/wsgi.py process-group=$site application-group=%{GLOBAL}
    WSGIPassAuthorization On
    <Directory /srv/$site/current>
        <Files wsgi.py>
            Require all granted
        </Files>
    </Directory>
</VirtualHost>
END
  a2enconf -q zz-by-hand
  a2dissite -q 000-default
  a2ensite -q 000-catch-all "$site"
  apachectl configtest 2>/dev/null
  systemctl daemon-reload
  systemctl enable -q apache2
  systemctl restart apache2
}

case ${1-} in
warm)
  apt-get -qq install -y --no-install-recommends python3-venv >/dev/null
  apt-get -qq install -y --download-only --no-install-recommends "${packages[@]}" >/dev/null
  cp -un /var/cache/apt/archives/*.deb /var/cache/switchboard-apt/
  mkdir -p /tmp/warm
  tar -xzf "$files/project.tar.gz" -C /tmp/warm
  python3 -m venv /tmp/warm/venv
  /tmp/warm/venv/bin/pip install --quiet --require-hashes --only-binary=:all: -r /tmp/warm/requirements.txt
  ;;
deploy)
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
  base
  zookeeper
  kafka
  environment
  release
  guard
  daphne
  handshake 9099
  apache
  handshake 80
  ;;
release)
  release
  touch "/srv/$site/current/wsgi.py"
  for instance in 1 2; do
    systemctl restart "daphne-$site@$instance.service"
    handshake 9099
  done
  ;;
*)
  echo "usage: by_hand.sh warm|deploy|release" >&2
  exit 2
  ;;
esac
