-- Results documents of the old backend: each is read once, into rows and files, and kept as evidence afterwards.
--
-- Locks are taken in the order session, run, as in 20261123130000_training_and_results.sql.

-- A document lies in the row (`results`) or in the artifacts bucket (`results_object`).
alter table public.training_results
add column results_object text check (length(results_object) between 1 and 1024),
add column document_status text check (document_status in ('unread', 'read', 'refused')),
add column document_detail jsonb not null default '{}',
add column document_lease_token uuid,
add column document_lease_expires_at timestamptz;

update public.training_results set document_status = 'unread'
where results is not null;

alter table public.training_results
add constraint training_results_one_document check (results is null or results_object is null),
add constraint training_results_document_status_known check (
  (document_status is null) = (results is null and results_object is null)
);

-- The path of a legacy model is its place in the document, so two documents of a session may have the same one.
create index models_of_session on public.models (session_uuid, path);

alter table public.models drop constraint models_session_uuid_path_key;

alter table public.models drop constraint models_path_check;

alter table public.models
add constraint models_path_check check (length(path) between 1 and 1024),
add constraint models_run_id_path_key unique (run_id, path);

-- Brings an old document in: the document itself, or the name of its object below results/<session uuid>/ of the
-- artifacts bucket. The run's id follows from what is brought in, so bringing it in again changes nothing.
create function public.import_legacy_results_v1(
  p_owner uuid, p_session_id text, p_document jsonb default null, p_object text default null
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_session public.sessions;
  v_run_id uuid;
  v_status text;
begin
  if (p_document is null) = (p_object is null) then
    perform private.raise_error(400, 'invalid_request', jsonb_build_object(
      'message', 'Give p_document or p_object.', 'field', 'p_document'));
  end if;
  select * into v_session from public.sessions
  where user_id = p_owner and session_id = p_session_id and deleting_at is null
  for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  if p_object is not null and (
    not starts_with(p_object, 'results/' || v_session.id || '/') or p_object like '%/../%'
    or length(p_object) > 1024
  ) then
    perform private.raise_error(400, 'invalid_request', jsonb_build_object(
      'message', format('p_object must lie below results/%s/.', v_session.id), 'field', 'p_object'));
  end if;
  v_run_id := md5(v_session.id || coalesce('object ' || p_object, 'document ' || md5(p_document::text)))::uuid;
  insert into public.training_results (
    id, session_uuid, user_id, status, results, results_object, document_status, finished_at
  )
  values (v_run_id, v_session.id, p_owner, 'completed', p_document, p_object, 'unread', now())
  on conflict (id) do nothing;
  update public.sessions set status = 'trained', updated_at = now()
  where id = v_session.id and status in ('initialized', 'finalized', 'failed');
  select r.document_status into v_status from public.training_results as r where r.id = v_run_id;
  return jsonb_build_object('run_id', v_run_id, 'session_uuid', v_session.id, 'document_status', v_status);
end
$$;

-- Locks a document's session and run. One of a session that is being deleted is gone already.
create function private.lock_document(p_owner uuid, p_run_id uuid) returns public.training_results
language plpgsql set search_path = ''
as $$
declare
  v_run public.training_results;
begin
  perform from public.sessions as s
  where s.deleting_at is null and s.user_id = p_owner
    and s.id = (select r.session_uuid from public.training_results as r where r.id = p_run_id)
  for update;
  if found then
    select * into v_run from public.training_results as r
    where r.id = p_run_id and r.document_status is not null
    for update;
  end if;
  if v_run.id is null then
    perform private.raise_error(404, 'run_not_found');
  end if;
  -- It may have hundreds of MiB, and would be copied with the row.
  v_run.results := null;
  return v_run;
end
$$;

create function public.claim_document_v1(p_owner uuid, p_run_id uuid, p_lease_token uuid, p_lease_s integer)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_run public.training_results := private.lock_document(p_owner, p_run_id);
  v_outcome text := 'done';
begin
  if v_run.document_status = 'unread' then
    if v_run.document_lease_expires_at > now() and v_run.document_lease_token <> p_lease_token then
      v_outcome := 'busy';
    else
      v_outcome := 'claimed';
      update public.training_results set
        document_lease_token = p_lease_token, document_lease_expires_at = now() + make_interval(secs => p_lease_s)
      where id = p_run_id;
    end if;
  end if;
  return jsonb_build_object(
    'outcome', v_outcome,
    'object', v_run.results_object,
    'busy_s', case v_outcome
      when 'busy' then ceil(extract(epoch from v_run.document_lease_expires_at - now()))::integer
    end
  );
end
$$;

-- The document itself, where it lies in the row. 200 MiB take longer than the usual limit of 8 s.
create function public.read_document_v1(p_owner uuid, p_run_id uuid) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '240s'
as $$
  select r.results from public.training_results as r
  join public.sessions as s on s.id = r.session_uuid and s.deleting_at is null
  where r.id = p_run_id and r.user_id = p_owner
$$;

create function public.release_document_v1(p_run_id uuid, p_lease_token uuid) returns void
language sql security definer set search_path = ''
as $$
  update public.training_results set document_lease_token = null, document_lease_expires_at = null
  where id = p_run_id and document_lease_token = p_lease_token
$$;

-- Records what was found in a document, all of it in one transaction, and marks it read. The objects are written and
-- checked before. `p_reference` says what was read: object, generation, bytes, sha256.
create function public.record_document_v1(
  p_owner uuid, p_run_id uuid, p_lease_token uuid, p_reference jsonb, p_document jsonb
) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_run public.training_results := private.lock_document(p_owner, p_run_id);
begin
  -- The answer to the first call was lost.
  if v_run.document_status = 'read' then
    return;
  end if;
  if v_run.document_lease_token is distinct from p_lease_token then
    perform private.raise_error(409, 'lease_lost');
  end if;
  insert into public.models (
    id, run_id, session_uuid, user_id, name, path, class, claimed_class, framework, origin, status, status_detail,
    progress, published, files, version, saved_at
  )
  select
    (e.m ->> 'id')::uuid, p_run_id, v_run.session_uuid, p_owner, e.m ->> 'name', e.m ->> 'path', e.m ->> 'class',
    e.m ->> 'claimed_class', e.m ->> 'framework', 'legacy', e.m ->> 'status', e.m ->> 'detail', 1, e.m -> 'published',
    e.m -> 'files',
    case e.m ->> 'status'
      when 'ready' then private.version_for(v_run.session_uuid, e.m ->> 'name', e.m -> 'files')
    end,
    case e.m ->> 'status' when 'ready' then now() end
  from jsonb_array_elements(p_document -> 'models') as e (m);
  perform private.insert_results(v_run, p_document);
  update public.training_results set
    manifest = p_reference, document_status = 'read', document_detail = p_document -> 'detail',
    document_lease_token = null, document_lease_expires_at = null
  where id = p_run_id;
end
$$;

-- Notes that a document cannot be read, and why; nothing of it is taken in.
create function public.refuse_document_v1(p_owner uuid, p_run_id uuid, p_lease_token uuid, p_detail jsonb)
returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_run public.training_results := private.lock_document(p_owner, p_run_id);
begin
  if v_run.document_status <> 'unread' then
    return;
  end if;
  if v_run.document_lease_token is distinct from p_lease_token then
    perform private.raise_error(409, 'lease_lost');
  end if;
  update public.training_results set
    document_status = 'refused', document_detail = p_detail,
    document_lease_token = null, document_lease_expires_at = null
  where id = p_run_id;
end
$$;

revoke execute on function
private.lock_document, public.import_legacy_results_v1, public.claim_document_v1, public.read_document_v1,
public.release_document_v1, public.record_document_v1, public.refuse_document_v1
from public, anon, authenticated;

grant execute on function
public.import_legacy_results_v1, public.claim_document_v1, public.read_document_v1, public.release_document_v1,
public.record_document_v1, public.refuse_document_v1
to service_role;
