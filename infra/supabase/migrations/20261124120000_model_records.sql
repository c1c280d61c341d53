-- What a model's record says beyond its files: where it came from, what somebody claimed it to be, and its version.

alter table public.models
add column origin text not null default 'trained' check (origin in ('trained', 'published', 'legacy')),
add column claimed_class text,
add column version integer check (version >= 1);

-- Documents of the old backend hold models of other libraries too.
alter table public.models drop constraint models_framework_check;

alter table public.models
add constraint models_framework_check check (framework in ('sklearn', 'keras', 'other'));

-- Says which content a model's files have, whatever they are called and whoever wrote them.
create function private.content_of(p_files jsonb) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_agg(jsonb_build_array(f ->> 'format', f ->> 'sha256') order by f ->> 'format', f ->> 'sha256')
  from jsonb_array_elements(p_files) as f
$$;

-- The version of a model that becomes ready: that of the same content under the same name, or the next one.
-- The caller holds the session's lock, so that two models that become ready at once get different numbers.
create function private.version_for(p_session_uuid uuid, p_name text, p_files jsonb) returns integer
language sql stable set search_path = ''
as $$
  select coalesce(
    (
      select min(m.version) from public.models as m
      where m.session_uuid = p_session_uuid and m.name = p_name and m.version is not null
        and private.content_of(m.files) = private.content_of(p_files)
    ),
    (
      select coalesce(max(m.version), 0) + 1 from public.models as m
      where m.session_uuid = p_session_uuid and m.name = p_name
    )
  )
$$;

-- Models that were saved before there were versions, in the order in which they were.
do $$
declare
  v_model public.models;
begin
  for v_model in
    select * from public.models as m where m.status = 'ready' order by m.saved_at, m.created_at, m.id
  loop
    update public.models set
      version = private.version_for(v_model.session_uuid, v_model.name, v_model.files)
    where id = v_model.id;
  end loop;
end
$$;

-- Those of a manifest that no run of ours knows come from somebody else's trainer.
update public.models as m set origin = 'published'
from public.training_results as r
where r.id = m.run_id and r.request = '{}';

-- As before, with the origin of the models.
create or replace function public.record_run_v1(
  p_owner uuid, p_session_uuid uuid, p_manifest jsonb, p_document jsonb
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_run public.training_results;
  v_run_id uuid := (p_document ->> 'run_id')::uuid;
begin
  perform from public.sessions where id = p_session_uuid and user_id = p_owner and deleting_at is null for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  insert into public.training_results (
    id, session_uuid, user_id, status, request, data_set, manifest, finished_at
  ) values (
    v_run_id, p_session_uuid, p_owner, p_document ->> 'status', p_document -> 'request', p_document -> 'data_set',
    p_manifest, now()
  )
  on conflict (id) do nothing
  returning * into v_run;
  if found then
    insert into public.models (
      run_id, session_uuid, user_id, name, path, class, framework, origin, status, status_detail, progress, published,
      files, metrics
    )
    select
      v_run_id, p_session_uuid, p_owner, e.m ->> 'name', v_run_id || '/' || (e.m ->> 'name'), e.m ->> 'class',
      e.m ->> 'framework', 'published', case e.m ->> 'status' when 'completed' then 'pending' else 'failed' end,
      e.m ->> 'detail', 1, e.m, coalesce(e.m -> 'files', '[]'), coalesce(e.m -> 'metrics', '{}')
    from jsonb_array_elements(p_document -> 'models') as e (m);
    perform private.insert_results(v_run, p_document);
    update public.sessions
    set status = case p_document ->> 'status' when 'completed' then 'trained' else 'failed' end, updated_at = now()
    where id = p_session_uuid and status in ('finalized', 'trained', 'failed');
  elsif not exists (
    select from public.training_results as r where r.id = v_run_id and r.session_uuid = p_session_uuid
  ) then
    perform private.raise_error(409, 'manifest_invalid', jsonb_build_object(
      'message', 'The run_id of the manifest is that of another session''s run.'));
  end if;
  return private.run_json(v_run_id);
end
$$;

-- As before; who becomes ready gets its version.
create or replace function public.mark_models_v1(p_run_id uuid, p_verdicts jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_verdict record;
begin
  -- Locks are taken in the order session, run, model. A session that is being deleted is left alone.
  perform from public.sessions as s
  where s.id = (select r.session_uuid from public.training_results as r where r.id = p_run_id)
  for update;
  for v_verdict in
    select v.model_id, v.status, v.detail
    from jsonb_to_recordset(p_verdicts) as v (model_id uuid, status text, detail text)
    where v.status in ('ready', 'refused')
  loop
    update public.models as m set
      status = v_verdict.status,
      status_detail = v_verdict.detail,
      saved_at = case v_verdict.status when 'ready' then now() end,
      version = case v_verdict.status when 'ready' then private.version_for(m.session_uuid, m.name, m.files) end,
      updated_at = now()
    where m.id = v_verdict.model_id and m.run_id = p_run_id and m.status = 'pending';
  end loop;
  return private.run_json(p_run_id);
end
$$;

revoke execute on function private.content_of, private.version_for from public, anon, authenticated;
