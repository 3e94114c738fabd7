#!/bin/bash
# The page "Over NVIDIA FLARE", start to finish, in the folder that it is started in; .ci/full runs it.
set -e
trap 'kill -9 $(cat made/flare/prod_00/*/daemon_pid.fl made/flare/prod_00/*/pid.fl) 2> /dev/null || true' EXIT

# project
cat > project.yml <<END
api_version: 3
name: flare
description: three hospitals
participants:
  - {name: localhost, type: server, org: hub, fed_learn_port: 8702, admin_port: 8703, host_names: [localhost]}
  - {name: site-a, type: client, org: hospital_a}
  - {name: site-b, type: client, org: hospital_b}
  - {name: site-c, type: client, org: hospital_c}
  - {name: alice@hub.org, type: admin, org: hub, role: project_admin}
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
  - {path: nvflare.lighter.impl.static_file.StaticFileBuilder, args: {config_folder: config, scheme: grpc}}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
END
nvflare provision -p project.yml -w made --force
kits=made/flare/prod_00
# end of project

# consent
dnnext sites allow $kits/localhost
sed -i "s|/tmp/nvflare|$PWD/kept|" $kits/localhost/local/resources.json   # where the server keeps jobs
python -c "
from sklearn.datasets import load_breast_cancer
rows = load_breast_cancer(as_frame=True).frame
[rows.iloc[k::3].to_csv(f'site-{name}.csv', index=False) for k, name in enumerate('abc')]"
for site in site-a site-b site-c; do
    dnnext site allow $kits/$site --data $site.csv --target target
done
# end of consent

# start
for name in localhost site-a site-b site-c; do
    $kits/$name/startup/start.sh > $name.log 2>&1
done
sleep 40
# end of start

# job
printf '%s\n' 'run = "trial-1"' 'estimator = "DecentralizedMLPClassifier"' 'checkpoint_every = 10' '[parameters]' \
    'hidden_layer_sizes = [5]' 'topology = "complete"' 'max_iter = 20' 'monitor_every = 10' 'random_state = 0' \
    '[limits]' 'away = 30' 'timeout = 86400' > job.toml
dnnext sites submit $kits/alice@hub.org job.toml
until dnnext sites status $kits/alice@hub.org | grep "trial-1: FINISHED"; do sleep 2; done
dnnext sites fetch $kits/alice@hub.org trial-1
dnnext site audit $kits/site-a
# end of job
