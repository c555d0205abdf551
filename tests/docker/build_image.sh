#!/usr/bin/env bash
# Prints the name of an image with Python that the Docker engine has, after making one where there is none.
#
# No registry is asked: `python:3.11-slim` is used if the engine has it already, and otherwise an image is put together from the packages of
# the Debian or Ubuntu that this runs on, from the mirrors that its apt is set up with. It takes some ten seconds, and needs neither root
# nor anything in the image to be run.
#
#   tests/docker/build_image.sh [TAG]       the engine is the one that `docker` talks to (DOCKER_HOST)
set -euo pipefail

tag=${1:-graflow-test-python:3.11}
packages=(python3 coreutils dash)

for image in python:3.11-slim "$tag"; do
  if docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image"
    exit 0
  fi
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/root" "$scratch/archives/partial" "$scratch/lists/partial"
: >"$scratch/status"

# As if nothing were installed: so apt fetches everything that the packages need, down to the C library.
fetch() {
  apt-get -qq -y -o Debug::NoLocking=1 -o Dir::State::status="$scratch/status" -o Dir::Cache::archives="$scratch/archives" \
    -o APT::Sandbox::User=root -o APT::Install-Recommends=0 "$@"
}

# The machine's own package lists may be missing, as in many a container, or too old for what the mirror still has.
if ! fetch --download-only install "${packages[@]}" >"$scratch/log" 2>&1; then
  fetch -o Dir::State::lists="$scratch/lists" update >>"$scratch/log" 2>&1 || true
  if ! fetch -o Dir::State::lists="$scratch/lists" --download-only install "${packages[@]}" >>"$scratch/log" 2>&1; then
    tail -n 20 "$scratch/log" >&2
    echo "apt cannot fetch ${packages[*]}: an image named $tag, or python:3.11-slim, would do as well" >&2
    exit 1
  fi
fi

# Packages of before and after the merge of / and /usr alike end up where the links point.
mkdir -p "$scratch/root/usr"/{bin,sbin,lib,lib32,lib64,libx32}
for name in bin sbin lib lib32 lib64 libx32; do ln -s "usr/$name" "$scratch/root/$name"; done
for package in "$scratch"/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$scratch/root" --keep-directory-symlink --no-same-owner \
    --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./usr/share/info' \
    --exclude='./usr/share/perl*' --exclude='./usr/lib/*/perl*' --exclude='./usr/share/zoneinfo'
done

python=$(basename "$(ls "$scratch"/root/usr/bin/python3.?? | head -n 1)")
ln -sf "$python" "$scratch/root/usr/bin/python3"
ln -sf "$python" "$scratch/root/usr/bin/python"
mkdir -p "$scratch/root"/{tmp,proc,sys,dev,etc,root,var/tmp,run}
chmod 1777 "$scratch/root/tmp" "$scratch/root/var/tmp"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n' >"$scratch/root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$scratch/root/etc/group"

settings=(--change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]')
raw=$(tar -C "$scratch/root" --owner=0 --group=0 --numeric-owner -c . | docker import "${settings[@]}" -)

# Compiled now, as Debian does when it installs: a task's container is read-only, so that every start would compile the library again.
compiler=$(docker create "$raw" python3 -m compileall -q -j 0 -x 'tests?/|lib2to3|distutils|pydoc_data' "/usr/lib/$python")
trap 'docker rm -f "$compiler" >/dev/null; rm -rf "$scratch"' EXIT
docker start -a "$compiler" >&2
docker commit "${settings[@]}" "$compiler" "$tag" >/dev/null

echo "$tag"
