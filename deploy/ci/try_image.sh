#!/usr/bin/env bash
# Start an image of ours as locked up as Compose has it, without a network, and see whether all that it is for is there:
# what is built on a public base may lack a library that the tests' base has. It changes nothing and needs no secret.
#
#   try_image.sh api|worker|web|airflow REFERENCE
set -euo pipefail

image=${1:?expected: IMAGE REFERENCE} reference=${2:?expected: IMAGE REFERENCE}
confined=(--network none --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges)

inside() {
  docker run --rm --interactive "${confined[@]}" --env AIRFLOW_HOME=/tmp/airflow --entrypoint "$1" "$reference" "${@:2}"
}

case $image in
  api)
    inside marquee --version
    # What is left out of it: what makes features, and PyTorch's side of one model.
    inside python3 - <<'END'
import importlib, pkgutil

failed = {}
for layer in ("api", "config", "data", "features", "models", "recommend", "store", "telemetry"):
    package = importlib.import_module(f"marquee.{layer}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "migrations" not in module.name:
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                failed[module.name] = str(error)
if set(failed) != {"marquee.features.snapshot", "marquee.models._sasrec_torch"}:
    raise SystemExit(f"other modules cannot be imported than those of training: {failed}")
END
    ;;
  worker)
    inside marquee --version
    inside marquee worker --help >/dev/null
    inside python3 -c 'import duckdb, lightgbm, matplotlib, mlflow, numpy, optuna, polars, scipy.optimize, sklearn'
    ;;
  airflow)
    inside airflow version
    inside python3 - <<'END'
from airflow.dag_processing.dagbag import DagBag

found = DagBag("/opt/airflow/dags")
lacking = {"marquee_pipeline", "marquee_backfill", "marquee_restore_drill"} - set(found.dags)
if found.import_errors or lacking:
    raise SystemExit(f"DAGs are lacking: {lacking}, {found.import_errors}")
END
    ;;
  web)
    container=$(docker run --detach "${confined[@]}" "$reference")
    trap 'docker rm --force "$container" >/dev/null' EXIT
    deadline=$((SECONDS + 60))
    until [ "$(docker inspect --format '{{.State.Health.Status}}' "$container")" = healthy ]; do
      [ $SECONDS -lt $deadline ] || {
        docker logs "$container"
        exit 1
      }
      sleep 0.5
    done
    docker exec "$container" wget -q -O - http://127.0.0.1:8090/ | grep -i '<!doctype html' >/dev/null
    ;;
  *)
    echo "try_image: there are api, worker, web and airflow." >&2
    exit 2
    ;;
esac
echo "$image is well"
