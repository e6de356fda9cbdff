#!/bin/sh
# What a server lacks (lacks=package), and who is at work on it (waits=sentence). It may have no Python yet.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /root/.ansible/tmp && chmod 700 /root/.ansible/tmp # else each module of the first run warns that it is not there
test -x /usr/bin/python3 || echo lacks=python3
test -x /usr/bin/sudo || echo lacks=sudo
# `cloud-init status` says "error" of a server where one thing went wrong, while all the others are still to come
if systemctl list-jobs --no-legend 2>/dev/null | grep -q ' cloud-'; then
  echo "waits=cloud-init still sets this host up"
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
