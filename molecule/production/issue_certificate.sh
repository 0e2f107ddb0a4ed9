#!/usr/bin/env bash
# issue_certificate.sh DIRECTORY ADDRESS [DAYS]: ADDRESS.pem and ADDRESS.key, signed by DIRECTORY/ca.pem, which is made when missing.
set -euo pipefail
directory=$1 address=$2 days=${3:-30}
umask 077
mkdir -p "$directory"
cd "$directory"
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
if [ ! -e ca.pem ]; then
  # Python 3.13 wants to be told what an authority may do.
  openssl req -x509 "${key[@]}" -days 3650 -subj '/CN=Authority of the tests' \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem
fi
openssl req "${key[@]}" -subj "/CN=$address" -keyout "$address.key" -out "$address.csr"
openssl x509 -req -in "$address.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" \
  -extfile <(printf 'subjectAltName=IP:%s\nauthorityKeyIdentifier=keyid\n' "$address") -out "$address.pem"
