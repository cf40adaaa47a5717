#!/bin/sh
# Builds a Kubernetes control plane for the tests of the fleet, from Debian 12 alone: kube-apiserver, the controller manager
# and the scheduler (1.20) from Debian's source package with Debian's Go, and Debian's etcd. Packages are unpacked, never
# installed, and apt's own files stay as they are: it needs no root. Five to ten minutes on two cores, 4 GiB of disk
# meanwhile, 250 MiB afterwards. What is built is not built again. The last line printed is the folder.
#   sh scripts/kubernetes_build.sh          builds;  exits 2 and says why where it cannot be
#   sh scripts/kubernetes_build.sh --path   only prints the folder; exits 1 if nothing is built there
set -eu

release=1.20
target=${COVEY_KUBERNETES:-${XDG_CACHE_HOME:-$HOME/.cache}/covey/kubernetes-$release}
programs='kube-apiserver kube-controller-manager kube-scheduler'

built() {
    for each in $programs etcd; do [ -x "$target/$each" ] || return 1; done
}
refuse() {
    printf 'covey: %s\n' "$*" >&2
    exit 2
}

if [ "${1:-}" = --path ]; then
    printf '%s\n' "$target"
    built
    exit
fi
if built; then
    printf '%s\n' "$target"
    exit 0
fi

# shellcheck disable=SC1091 # it is there or it is not
[ -e /etc/os-release ] && VERSION_ID= ID= && . /etc/os-release
[ "${ID:-} ${VERSION_ID:-}" = 'debian 12' ] || refuse "Kubernetes $release is built from the packages of Debian 12, and this is ${PRETTY_NAME:-something else}"
missing=
command -v make >/dev/null || missing="$missing make"
command -v bash >/dev/null || missing="$missing bash"
command -v patch >/dev/null || missing="$missing patch"
command -v dpkg-source >/dev/null || missing="$missing dpkg-dev"
# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || sh scripts/debian_install.sh $missing

mkdir -p "$(dirname "$target")"
exec 9>"$target.lock"
flock 9
if built; then # by whoever held the lock
    printf '%s\n' "$target"
    exit 0
fi
room=$(df -Pk "$(dirname "$target")" | awk 'NR == 2 { print int($4 / 1048576) }')
[ "$room" -ge 5 ] || refuse "$room GiB are free beside $target, and the build takes 5 meanwhile"

work=$target.build
rm -rf "$work"
mkdir -p "$work/apt/sources" "$work/apt/lists/partial" "$work/apt/cache/archives/partial" "$work/packages" "$work/root"
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
log=$target.log
: >"$log"

# The sources that this machine is configured for, with their source packages, in a folder of our own.
for each in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -e "$each" ] || sed -n 's/^deb /deb-src /p; /^deb /p' "$each" >"$work/apt/sources/$(basename "$each" .list).list"
done
for each in /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$each" ] || sed 's/^Types:.*/Types: deb deb-src/' "$each" >"$work/apt/sources/$(basename "$each")"
done
# apt gives its privileges up for a download, and complains when the directory is not open to everybody.
fetch() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/apt/sources" -o "Dir::State::lists=$work/apt/lists" \
        -o "Dir::Cache=$work/apt/cache" -o APT::Sandbox::User=root "$@" >>"$log" 2>&1
}
failed() {
    tail -n 20 "$log" >&2
    refuse "$1; the whole story is in $log"
}

cd "$work/packages"
printf '==> fetching Kubernetes %s, Go and etcd of Debian (120 MiB)\n' "$release" >&2
fetch update || printf 'some sources did not answer\n' >>"$log"
fetch source --download-only kubernetes || failed 'Debian does not give the source of Kubernetes'
ls kubernetes_*"$release".*.dsc >/dev/null 2>&1 || refuse "Debian gives another Kubernetes than $release: $(ls kubernetes_*.dsc)"
fetch download golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev etcd-server || failed 'Debian does not give Go 1.19 and etcd'
for each in *.deb; do dpkg -x "$each" "$work/root"; done
dpkg-source -x --no-check kubernetes_*.dsc "$work/source" >>"$log" 2>&1 || failed 'the source does not unpack'

# The vendored reflect2 reads the runtime of Go in a way that 1.18 ended: what is built with it dies of a segmentation fault.
reflect=$work/source/vendor/github.com/modern-go/reflect2
rm -rf "$reflect"
cp -r "$work/root/usr/share/gocode/src/github.com/modern-go/reflect2" "$reflect"
# The one use of rsync copies a program that was just built.
sed -i 's/rsync -pc/cp -p/' "$work/source/hack/lib/golang.sh"

printf '==> building %s (five to ten minutes on two cores)\n' "$programs" >&2
mkdir -p "$work/gopath/src/k8s.io"
ln -s "$work/source" "$work/gopath/src/k8s.io/kubernetes"
cd "$work/gopath/src/k8s.io/kubernetes"
what=
for each in $programs; do what="$what cmd/$each"; done
# `make` and not `go build`: it also generates the OpenAPI of the API server. No proxy: everything is in the vendor tree.
env -i HOME="$work" PATH="$work/root/usr/lib/go-1.19/bin:$PATH" GOPATH="$work/gopath" GOCACHE="$work/gocache" GOPROXY=off CGO_ENABLED=0 \
    nice -n 10 make WHAT="${what# }" GOLDFLAGS='-s -w' >>"$log" 2>&1 9>&- || failed 'the build failed'

rm -rf "$target"
mkdir "$work/done"
for each in $programs; do cp "_output/bin/$each" "$work/done/"; done
cp "$work/root/usr/bin/etcd" "$work/done/"
for each in $programs etcd; do
    "$work/done/$each" --version >>"$log" 2>&1 || failed "$each was built and does not run"
done
mv "$work/done" "$target"
printf '%s\n' "$target"
