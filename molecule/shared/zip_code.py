"""Keep what Python compiles out of zip files, on test hosts.

Ansible sends a module with all that it imports as one zip file, of which Python compiles everything anew in each run:
0.12 of the 0.29 s that a module takes which does nothing. Here that is kept by the hash of its source. A host begins
with it where molecule/shared/host_options.yml says so; real servers have nothing of the kind.
"""

import marshal
import os
import sys
import zipimport
from _blake2 import blake2b  # hashlib would load OpenSSL into every Python
from types import CodeType

FOLDER = f"/var/cache/zip-code/{sys.implementation.cache_tag}"
compile_source = zipimport._compile_source  # what each import out of a zip file calls


def kept(name: str, source: bytes) -> CodeType:
    """Return the code of a source, as it was compiled the first time."""
    path = f"{FOLDER}/{blake2b(source, digest_size=16).hexdigest()}"
    try:
        with open(path, "rb") as file:
            return marshal.loads(file.read())  # noqa: S302 - root of the host wrote it
    except (OSError, EOFError, ValueError, TypeError):
        code = compile_source(name, source)
    try:
        os.makedirs(FOLDER, exist_ok=True)
        with open(f"{path}.{os.getpid()}", "wb") as file:
            file.write(marshal.dumps(code))
        os.replace(f"{path}.{os.getpid()}", path)
    except OSError:  # only root may write there
        pass
    return code


zipimport._compile_source = kept
