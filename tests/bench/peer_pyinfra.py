"""As many operations of pyinfra as an unchanged run calls ssh: files and units in turn, nothing to change."""

import io
import os

from pyinfra.operations import files, systemd

for number in range(int(os.environ["OPERATIONS"]) // 2):
    files.put(
        name=f"file {number}",
        src=io.StringIO(f"file {number}\n"),
        dest=f"/etc/switchboard/peer-{number}.conf",
        _sudo=True,
    )
    systemd.service(name=f"unit {number}", service="zookeeper.service", running=True, _sudo=True)
