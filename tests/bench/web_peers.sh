#!/usr/bin/env bash
# What `make bench-web` compares the bundle with, on the same host and with the same project: nginx with gunicorn,
# HAProxy, uvicorn, and Apache as Debian ships it with the rules that are published for WebSockets. It runs over SSH, as
# root.
#
#   web_peers.sh install           everything below, started by nobody
#   web_peers.sh start PEER        nginx, gunicorn, haproxy, uvicorn or seed; until it serves a page
#   web_peers.sh stop PEER
#   web_peers.sh fresh UNIT...     restart units: their memory is that of a first minute
#   web_peers.sh memory UNIT...    KiB of Pss, threads, open TCP sockets of the host, pages of the kernel's TCP buffers
#   web_peers.sh release PEER      load changed code, ours as the bundle does, nginx by a reload of gunicorn; tell when
#
# $SITE is the site, $ADDRESS the host's address, $DAPHNE the port of the site's Daphne, which all proxies share.
# $PROCESSES and $THREADS are those of the site's WSGI daemon, $INSTANCES those of Daphne.
set -euo pipefail

current=/srv/$SITE/current
declare -A ports=([gunicorn]=9202 [uvicorn]=9203 [nginx]=9204 [haproxy]=9205 [seed]=9206)
declare -A units=(
  [gunicorn]="bench-gunicorn-direct" [uvicorn]="bench-uvicorn" [nginx]="bench-gunicorn bench-nginx"
  [haproxy]="bench-haproxy" [seed]="apache2@seed"
)

wait_for_page() { # port
  python3 - "$1" "$ADDRESS" <<'END'
import http.client, sys, time
for _ in range(300):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=5)
        connection.request("GET", "/", headers={"Host": sys.argv[2]})
        if connection.getresponse().status == 200:
            sys.exit()
    except OSError:
        pass
    time.sleep(0.1)  # between two looks
sys.exit(f"no page on port {sys.argv[1]} after 30 s")
END
}

unit() { # name, user, command
  cat >"/etc/systemd/system/$1.service" <<END
[Service]
User=$2
WorkingDirectory=/srv/bench/app
EnvironmentFile=/etc/switchboard/$SITE/*.env
Environment=PYTHONDONTWRITEBYTECODE=1
RuntimeDirectory=$1
ExecStart=$3
KillMode=mixed
TimeoutStopSec=10
LimitNOFILE=20000
TasksMax=infinity
END
}

# A copy of the project, and of its packages with the peers' servers beside them: the live release stays as it is.
python_servers() {
  mkdir -p /srv/bench
  cp -rL "$current/app" /srv/bench/app
  chgrp -R "$SITE" /srv/bench/app
  python3 -m venv /srv/bench/venv
  /srv/bench/venv/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: \
    -r /srv/bench/app/requirements.txt --require-hashes
  /srv/bench/venv/bin/pip install --quiet --disable-pip-version-check --only-binary=:all: gunicorn 'uvicorn[standard]'
  install -d -o "$SITE" -g "$SITE" /var/log/bench
  local gunicorn
  # shellcheck disable=SC2153  # given by the caller
  gunicorn="/srv/bench/venv/bin/gunicorn beacon.web --worker-class gthread --workers $PROCESSES \
--threads $THREADS --keep-alive 75 --worker-tmp-dir /dev/shm --log-level warning"
  unit bench-gunicorn "$SITE" "$gunicorn --bind unix:/run/bench-gunicorn/gunicorn.sock --umask 0"
  unit bench-gunicorn-direct "$SITE" \
    "$gunicorn --bind 0.0.0.0:${ports[gunicorn]} --access-logfile /var/log/bench/gunicorn.log"
  unit bench-uvicorn "$SITE" "/srv/bench/venv/bin/uvicorn beacon.sockets:application --workers $INSTANCES \
--host 0.0.0.0 --port ${ports[uvicorn]} --no-access-log --log-level warning"
}

# As its documentation has it: connections to gunicorn are kept, a WebSocket is handed on with HTTP/1.1.
nginx_server() {
  cat >/srv/bench/nginx.conf <<END
user www-data;
worker_processes auto;
worker_rlimit_nofile 20000;
pid /run/bench-nginx/nginx.pid;
error_log /var/log/bench/nginx-error.log;
events {
    worker_connections 16384;
}
http {
    include /etc/nginx/mime.types;
    sendfile on;
    tcp_nopush on;
    server_tokens off;
    access_log /var/log/bench/nginx.log combined;
    map \$http_upgrade \$for_upgrade {
        default upgrade;
        "" "";
    }
    proxy_http_version 1.1;
    proxy_set_header Host \$http_host;
    proxy_set_header X-Forwarded-For \$remote_addr;
    proxy_set_header X-Forwarded-Proto \$scheme;
    proxy_set_header Upgrade \$http_upgrade;
    proxy_set_header Connection \$for_upgrade;
    upstream pages {
        server unix:/run/bench-gunicorn/gunicorn.sock;
        keepalive 64;
    }
    server {
        listen ${ports[nginx]} backlog=1024;
        location / {
            proxy_pass http://pages;
        }
        location /live/ {
            proxy_pass http://127.0.0.1:$DAPHNE;
        }
        location /static/ {
            alias $current/static/;
        }
    }
}
END
  unit bench-nginx root "/usr/sbin/nginx -c /srv/bench/nginx.conf -g 'daemon off;'"
}

haproxy_server() {
  cat >/srv/bench/haproxy.cfg <<END
global
    maxconn 8192
    log /dev/log local0
defaults
    mode http
    log global
    option httplog
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend web
    bind *:${ports[haproxy]} backlog 1024
    default_backend sockets
backend sockets
    server daphne 127.0.0.1:$DAPHNE
END
  unit bench-haproxy root "/usr/sbin/haproxy -Ws -f /srv/bench/haproxy.cfg"
}

# A second instance (apache2@.service) from the files of Debian's package, since the bundle has changed the first one's.
seed_server() {
  local folder=/etc/apache2-seed name
  (
    cd "$(mktemp -d)"
    apt-get -qq download apache2
    dpkg-deb -x apache2_*.deb package
    cp -a package/etc/apache2 "$folder"
  )
  mkdir -p "$folder"/{mods,conf,sites}-enabled
  cp /etc/apache2/mods-available/wsgi.* "$folder/mods-available/"
  # what Debian's package switches on, then what the published rules come with
  for name in access_compat alias auth_basic authn_core authn_file authz_core authz_host authz_user autoindex deflate \
    dir env filter mime mpm_event negotiation reqtimeout setenvif status rewrite proxy proxy_wstunnel wsgi; do
    ln -sf "$folder/mods-available/$name".* "$folder/mods-enabled/"
  done
  for name in charset localized-error-pages other-vhosts-access-log security serve-cgi-bin; do
    ln -sf "$folder/conf-available/$name.conf" "$folder/conf-enabled/"
  done
  install -d -o root -g adm -m 0750 /var/log/apache2-seed
  echo "Listen ${ports[seed]}" >"$folder/ports.conf"
  cat >"$folder/sites-enabled/seed.conf" <<END
<VirtualHost *:${ports[seed]}>
    ServerName $ADDRESS
    ErrorLog \${APACHE_LOG_DIR}/error.log
    CustomLog \${APACHE_LOG_DIR}/access.log combined
    RewriteEngine on
    RewriteCond %{HTTP:UPGRADE} ^WebSocket\$ [NC,OR]
    RewriteCond %{HTTP:CONNECTION} ^Upgrade\$ [NC]
    RewriteRule .* ws://127.0.0.1:$DAPHNE%{REQUEST_URI} [P,QSA,L]
    WSGIDaemonProcess seed user=$SITE group=$SITE processes=$PROCESSES threads=$THREADS python-home=$current/venv
    WSGIProcessGroup seed
    WSGIApplicationGroup %{GLOBAL}
    WSGIScriptAlias / $current/wsgi.py
    <Directory $current>
        <Files wsgi.py>
            Require all granted
        </Files>
    </Directory>
</VirtualHost>
END
  mkdir -p /etc/systemd/system/apache2@seed.service.d
  # a stop waits for the sockets that are open
  printf '[Service]\nTimeoutStopSec=10\n' >/etc/systemd/system/apache2@seed.service.d/bench.conf
}

case ${1-} in
install)
  # Debian's own units would start at once, on ports that are taken.
  systemctl mask -q nginx.service haproxy.service
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends nginx haproxy >/dev/null
  python_servers
  nginx_server
  haproxy_server
  seed_server
  head -c 102400 /dev/urandom >"$current/static/bench.bin"
  chmod 0644 "$current/static/bench.bin"
  systemctl daemon-reload
  ;;
start)
  for name in ${units[$2]}; do
    systemctl start "$name"
  done
  wait_for_page "${ports[$2]}"
  ;;
stop)
  for name in ${units[$2]}; do
    systemctl stop "$name"
  done
  ;;
fresh)
  shift
  for name in "$@"; do
    systemctl restart "$name"
  done
  ;;
memory)
  shift
  pattern=$(IFS='|' && echo "$*")
  processes=$(grep -lE "/($pattern)\.service\$" /proc/[0-9]*/cgroup 2>/dev/null | sed 's/cgroup$//')
  pss=0 threads=0
  for process in $processes; do
    kib=$(awk '/^Pss:/ {print $2}' "$process/smaps_rollup" 2>/dev/null || true)
    pss=$((pss + ${kib:-0}))
    threads=$((threads + $(find "$process/task" -maxdepth 1 -mindepth 1 2>/dev/null | wc -l)))
  done
  awk -v pss="$pss" -v threads="$threads" '/^TCP:/ {print pss, threads, $3, $11}' /proc/net/sockstat
  ;;
release)
  change="REVISION = '$(date +%s%N)'"
  if [ "$2" = nginx ]; then
    echo "$change" >>/srv/bench/app/beacon/pages.py
    /srv/bench/venv/bin/python -m compileall -q /srv/bench/app
    date +%s.%N
    systemctl kill --signal=HUP --kill-whom=main bench-gunicorn
    exit
  fi
  # The link moves and Daphne's instances restart in turn; the module wsgi_renew follows: roles/django/handlers.
  new="/srv/$SITE/releases/bench-$(date +%s%N)"
  cp -a "$(readlink -f "$current")" "$new"
  echo "$change" >>"$new/app/beacon/pages.py"
  "$new/venv/bin/python" -m compileall -q "$new/app"
  ln -s "releases/${new##*/}" "/srv/$SITE/.current.bench"
  date +%s.%N
  mv -T "/srv/$SITE/.current.bench" "$current"
  for ((i = 1; i <= INSTANCES; i++)); do
    systemctl restart "daphne-$SITE@$i.service"
  done
  ;;
*)
  echo "usage: web_peers.sh install|start|stop|fresh|memory|release" >&2
  exit 2
  ;;
esac
