#!/bin/bash
# Builds what is published, into bin/dist: static programs, packages and archives for amd64
# and arm64, a bill of materials for each, and the checksums of all. The same source gives
# the same bytes. Run by make dist, which gives VERSION and MODULE.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${VERSION:?}" "${MODULE:?}"
out=${DIST:-bin/dist}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
DATE=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
flags="-s -w -X $MODULE/internal/version.Version=$VERSION"
rm -rf "$out"
mkdir -p "$out/publish"
go run ./packaging/gen "$out/gen"
for arch in ${ARCHES:-amd64 arm64}; do
	bin=$out/$arch
	mkdir -p "$bin"
	for program in docker-dso dso-agent dso-runtime dso-front; do
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false -ldflags "$flags" -o "$bin/$program" "./cmd/$program"
	done
	for format in deb rpm; do
		engine=docker.io
		[ $format = rpm ] && engine=docker-ce
		env VERSION="$VERSION" ARCH="$arch" DATE="$DATE" BIN="$bin" GEN="$out/gen" ENGINE=$engine envsubst <packaging/nfpm.yaml >"$out/nfpm-$arch-$format.yaml"
		tools/bin/nfpm package --config "$out/nfpm-$arch-$format.yaml" --packager $format --target "$out/publish/" >/dev/null
	done
	name=docker-dso-$VERSION-linux-$arch
	mkdir -p "$out/$name"
	cp "$bin"/* README.md packaging/dso.yaml "$out/$name/"
	tar --create --directory "$out" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX "$name" |
		gzip -n9 >"$out/publish/$name.tar.gz"
	for program in docker-dso dso-agent dso-runtime dso-front; do
		tools/bin/cyclonedx-gomod bin -json -noserial -notimestamp -version "$VERSION" -output "$out/publish/$program-$VERSION-linux-$arch.cdx.json" "$bin/$program" 2>/dev/null
	done
done
(cd "$out/publish" && sha256sum -- * >SHA256SUMS)
ls -l "$out/publish"
