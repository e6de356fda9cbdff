# What a server lacks (lacks=package), and who is at work on it (waits=sentence). It may have no Python yet.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
test -x /usr/bin/python3 || echo lacks=python3
test -x /usr/bin/sudo || echo lacks=sudo
if command -v cloud-init >/dev/null 2>&1; then
  case $(cloud-init status 2>/dev/null) in
    *running* | *"not run"* | *"not started"*) echo "waits=cloud-init still sets this host up" ;;
  esac
fi
for lock in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do
  test -e "$lock" || continue
  number=$(stat -c %i "$lock")
  process=$(awk -v number=":$number" 'index($6, number) == length($6) - length(number) + 1 { print $5; exit }' /proc/locks)
  if test -n "$process"; then
    echo "waits=$(cat "/proc/$process/comm" 2>/dev/null) (process $process) installs packages on this host"
    break
  fi
done
exit 0
