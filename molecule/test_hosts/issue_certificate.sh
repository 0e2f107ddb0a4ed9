#!/usr/bin/env bash
# issue_certificate.sh DIRECTORY NAMES [DAYS]: FIRST.pem and FIRST.key for the names and addresses in NAMES, which commas
# part, of which FIRST is the first; signed by DIRECTORY/ca.pem, which is made when missing.
set -euo pipefail
directory=$1 names=$2 days=${3:-30}
first=${names%%,*}
umask 077
mkdir -p "$directory"
cd "$directory"
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
if [ ! -e ca.pem ]; then
  # Python 3.13 wants to be told what an authority may do.
  openssl req -x509 "${key[@]}" -days 3650 -subj '/CN=Authority of the tests' \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem
fi
alternatives=
for name in ${names//,/ }; do
  [[ $name =~ ^[0-9.]+$ ]] && kind=IP || kind=DNS
  alternatives+=${alternatives:+,}$kind:$name
done
openssl req "${key[@]}" -subj "/CN=$first" -keyout "$first.key" -out "$first.csr"
openssl x509 -req -in "$first.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" \
  -extfile <(printf 'subjectAltName=%s\nauthorityKeyIdentifier=keyid\n' "$alternatives") -out "$first.pem"
