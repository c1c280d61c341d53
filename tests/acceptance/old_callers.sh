#!/bin/sh
# What callers of the old backend send, in their order, without a token, through the local front door.
# Prints one line per call; ends with the first answer that lacks a documented field.
# Needs curl and python3 (to read JSON). TRAINSHED_URL: address of the running stack.
set -eu

base="${TRAINSHED_URL:-http://localhost:8080}/api/training"
run="$(date +%Y%m%d%H%M%S)-$$"
session="old-callers-$run"
other="old-callers-finalize-$run"
answer="$(mktemp)"
trap 'rm -f "$answer"' EXIT

# call METHOD PATH BODY FIELD...: FIELD is NAME, or NAME=VALUE with VALUE as JSON; a dot goes one level down.
call() {
  method="$1" path="$2" body="$3"
  shift 3
  if [ -n "$body" ]; then
    set -- "$@" -- -H 'Content-Type: application/json' --data "$body"
  else
    set -- "$@" --
  fi
  fields=''
  while [ "$1" != '--' ]; do
    fields="$fields $1"
    shift
  done
  shift
  status="$(curl --silent --show-error --max-time 60 --request "$method" --output "$answer" \
    --write-out '%{http_code}' "$@" "$base$path")" || {
    echo "FAILED $method $path: no answer from $base"
    exit 1
  }
  case "$status" in
    2??) ;;
    *)
      echo "FAILED $method $path: $status"
      cat "$answer"
      exit 1
      ;;
  esac
  # shellcheck disable=SC2086  (field names hold no spaces)
  python3 -c '
import json, sys

document = json.load(open(sys.argv[1]))
if document.get("success") is not True:
    sys.exit("success is not true")
for field in sys.argv[2:]:
    name, _, wanted = field.partition("=")
    value = document["data"]
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            sys.exit(f"no field {name}")
        value = value[part]
    if wanted and value != json.loads(wanted):
        sys.exit(f"{name} is {json.dumps(value)} instead of {wanted}")
' "$answer" $fields || {
    echo "FAILED $method $path: the answer is"
    cat "$answer"
    exit 1
  }
  echo "ok $status $method $path"
}

call POST /init-session "{\"sessionId\": \"$session\"}" \
  "session_id=\"$session\"" uuid 'status="initialized"' created_at
call GET /list-sessions '' sessions count
call GET "/session/$session" '' \
  "session_id=\"$session\"" id 'status="initialized"' created_at updated_at n_dat metadata files=[] total_files=0
call GET "/plot-variables/$session" '' "session_id=\"$session\"" files=[] variables=[]
call GET "/visualizations/$session" '' "session_id=\"$session\"" visualizations=[] count=0
call GET "/scalers/$session" '' "session_id=\"$session\"" scalers=[] count=0
call GET "/list-models-database/$session" '' models=[] count=0
call POST "/session/$session/delete" '' \
  "session_id=\"$session\"" deleted_from_database.sessions=1 deleted_from_database.training_results=0 \
  deleted_from_database.scalers=0 deleted_from_database.visualizations=0 \
  deleted_from_database.evaluation_tables=0 deleted_from_database.models=0 deleted_from_database.uploads=0 \
  files_deleted=0 'status="deleted"'
call POST /cleanup '{"maxAgeHours": 24, "dryRun": true}' \
  cleaned objects_deleted bytes_freed has_more dry_run=true
call POST /cleanup '' cleaned objects_deleted bytes_freed has_more dry_run=false

# The first session is deleted, so another one is finalized.
call POST /init-session "{\"sessionId\": \"$other\"}" "session_id=\"$other\""
call POST /finalize-session "{\"sessionId\": \"$other\"}" \
  "session_id=\"$other\"" 'status="finalized"' n_dat=0 database_saved=true
call POST "/session/$other/delete" '' 'status="deleted"'
echo "Every call of the old backend's callers is answered."
