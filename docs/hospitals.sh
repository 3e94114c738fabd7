#!/bin/bash
# The page "Three hospitals", start to finish, in the folder that it is started in; .ci/full runs it.
set -e
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT

# authority
mkdir authority hub
openssl ecparam -name prime256v1 -genkey -noout -out authority/ca.key
openssl req -x509 -new -key authority/ca.key -days 365 -subj "/CN=three hospitals" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -out authority/ca.pem
printf '%s\n' 'basicConstraints = critical, CA:FALSE' 'keyUsage = critical, digitalSignature' \
    'extendedKeyUsage = serverAuth, clientAuth' 'authorityKeyIdentifier = keyid' > authority/leaf.cnf
sign() {   # sign FOLDER NAME
    openssl x509 -req -in $1/$2.csr -CA authority/ca.pem -CAkey authority/ca.key -CAcreateserial -days 90 \
        -copy_extensions copy -extfile authority/leaf.cnf -out $1/$2.signed.pem
}
# end of authority

# hub
dnnext site request hub --name relay --host localhost
sign hub relay
cp hub/relay.signed.pem hub/relay.pem && cp authority/ca.pem hub/
dnnext sites relay hub --sites site-a,site-b,site-c --host 127.0.0.1 --port 4333
nats-server -c hub/relay.conf > hub/relay.log 2>&1 &
sleep 1
dnnext sites open hub --relay tls://localhost:4333
# end of hub

# hospital
python -c "
from sklearn.datasets import load_breast_cancer
rows = load_breast_cancer(as_frame=True).frame
[rows.iloc[k::3].to_csv(f'site-{name}.csv', index=False) for k, name in enumerate('abc')]"
for site in site-a site-b site-c; do
    dnnext site request $site --name $site
    sign $site $site
    dnnext site join $site --certificate $site/$site.signed.pem --ca authority/ca.pem \
        --relay tls://localhost:4333 --sites site-a,site-b,site-c --data $site.csv --target target
done
dnnext site check site-a
# end of hospital

# job
printf '%s\n' 'run = "trial-1"' 'estimator = "DecentralizedMLPClassifier"' '[parameters]' \
    'hidden_layer_sizes = [5]' 'topology = "complete"' 'max_iter = 20' 'monitor_every = 10' 'random_state = 0' > job.toml
dnnext sites submit hub job.toml --relay tls://localhost:4333
for site in site-a site-b site-c; do dnnext site run $site & jobs="$jobs $!"; done
wait $jobs
dnnext sites status hub --relay tls://localhost:4333
dnnext sites fetch hub trial-1 --relay tls://localhost:4333
dnnext site audit site-a
# end of job
