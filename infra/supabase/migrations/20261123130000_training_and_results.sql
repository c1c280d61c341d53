-- Training runs, models and their results: tables, row-level security, and one versioned function per legal write.
--
-- The rules of 20261123120000_sessions_and_uploads.sql hold here too. Locks are taken in the order session, run, model.

-- A run trains several models on the data sets of one session. Its results live in the artifacts bucket behind `manifest`.
create table public.training_results (
  id uuid primary key default gen_random_uuid(),
  session_uuid uuid not null references public.sessions (id) on delete cascade,
  user_id uuid not null references auth.users (id),
  status text not null default 'queued' check (status in ('queued', 'running', 'completed', 'failed')),
  request jsonb not null default '{}',
  data_set jsonb not null default '[]',
  -- Results documents of the old backend are kept inline here.
  results jsonb,
  manifest jsonb,
  failure text,
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  check (status in ('queued', 'running') or finished_at is not null)
);

create index training_results_of_session on public.training_results (session_uuid, created_at desc);

create index training_results_of_user on public.training_results (user_id);

create unique index training_results_one_in_progress on public.training_results (session_uuid)
where status in ('queued', 'running');

-- `published` is what the training task wrote, `files` and `metrics` the parts of it that lists show.
create table public.models (
  id uuid primary key default gen_random_uuid(),
  run_id uuid not null references public.training_results (id) on delete cascade,
  session_uuid uuid not null references public.sessions (id) on delete cascade,
  user_id uuid not null references auth.users (id),
  name text not null check (length(name) between 1 and 128),
  path text not null check (length(path) between 1 and 256),
  class text,
  framework text not null check (framework in ('sklearn', 'keras')),
  status text not null default 'queued' check (
    status in ('queued', 'training', 'pending', 'ready', 'failed', 'unsupported', 'refused')
  ),
  status_detail text,
  progress real not null default 0 check (progress between 0 and 1),
  lease_token uuid,
  lease_expires_at timestamptz,
  attempts integer not null default 0,
  tasks integer not null default 1,
  queued_at timestamptz not null default now(),
  published jsonb,
  files jsonb not null default '[]',
  metrics jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  saved_at timestamptz,
  unique (run_id, name),
  unique (session_uuid, path),
  check (status <> 'training' or (lease_token is not null and lease_expires_at is not null)),
  check (status <> 'ready' or saved_at is not null)
);

create index models_of_user on public.models (user_id);

create table public.scalers (
  id uuid primary key default gen_random_uuid(),
  run_id uuid not null references public.training_results (id) on delete cascade,
  session_uuid uuid not null references public.sessions (id) on delete cascade,
  user_id uuid not null references auth.users (id),
  position integer not null,
  content jsonb not null,
  unique (run_id, position)
);

create table public.training_visualizations (
  id uuid primary key default gen_random_uuid(),
  run_id uuid not null references public.training_results (id) on delete cascade,
  session_uuid uuid not null references public.sessions (id) on delete cascade,
  user_id uuid not null references auth.users (id),
  position integer not null,
  content jsonb not null,
  unique (run_id, position)
);

create table public.evaluation_tables (
  id uuid primary key default gen_random_uuid(),
  run_id uuid not null references public.training_results (id) on delete cascade,
  session_uuid uuid not null references public.sessions (id) on delete cascade,
  user_id uuid not null references auth.users (id),
  position integer not null,
  content jsonb not null,
  unique (run_id, position)
);

create index scalers_of_session on public.scalers (session_uuid);

create index scalers_of_user on public.scalers (user_id);

create index training_visualizations_of_session on public.training_visualizations (session_uuid);

create index training_visualizations_of_user on public.training_visualizations (user_id);

create index evaluation_tables_of_session on public.evaluation_tables (session_uuid);

create index evaluation_tables_of_user on public.evaluation_tables (user_id);

alter table public.training_results enable row level security;

alter table public.models enable row level security;

alter table public.scalers enable row level security;

alter table public.training_visualizations enable row level security;

alter table public.evaluation_tables enable row level security;

create policy training_results_read_own on public.training_results for select to authenticated
using ((select auth.uid()) = user_id);

create policy models_read_own on public.models for select to authenticated
using ((select auth.uid()) = user_id);

create policy scalers_read_own on public.scalers for select to authenticated
using ((select auth.uid()) = user_id);

create policy training_visualizations_read_own on public.training_visualizations for select to authenticated
using ((select auth.uid()) = user_id);

create policy evaluation_tables_read_own on public.evaluation_tables for select to authenticated
using ((select auth.uid()) = user_id);

revoke all on
public.training_results, public.models, public.scalers, public.training_visualizations, public.evaluation_tables
from anon, authenticated, service_role;

grant select on
public.training_results, public.models, public.scalers, public.training_visualizations, public.evaluation_tables
to authenticated, service_role;

-- A model whose task died this often is given up.
create function private.max_training_attempts() returns integer
language sql immutable set search_path = ''
as $$ select 5 $$;

-- A task that was queued this long ago and did nothing is taken for lost.
create function private.task_patience() returns interval
language sql immutable set search_path = ''
as $$ select interval '10 minutes' $$;

create function private.is_run_finished(p_run_id uuid) returns boolean
language sql stable set search_path = ''
as $$
  select not exists (
    select from public.models as m where m.run_id = p_run_id and m.status in ('queued', 'training')
  )
$$;

-- The run with its models. What the models published is large and only needed to write the manifest.
create function private.run_json(p_run_id uuid, p_with_published boolean default false) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(r) - 'results' || jsonb_build_object(
    'session_id', s.session_id,
    'models', (
      select coalesce(jsonb_agg(
        case when p_with_published then to_jsonb(m) else to_jsonb(m) - 'published' end order by m.created_at, m.name
      ), '[]')
      from public.models as m where m.run_id = r.id
    )
  )
  from public.training_results as r
  join public.sessions as s on s.id = r.session_uuid
  where r.id = p_run_id
$$;

-- Locks the run of a model, then the model. A model of a session that is being deleted is gone already.
create function private.lock_model(p_model_id uuid) returns public.models
language plpgsql set search_path = ''
as $$
declare
  v_model public.models;
begin
  perform from public.training_results as r
  where r.id = (select m.run_id from public.models as m where m.id = p_model_id)
  for update;
  select m.* into v_model from public.models as m
  join public.sessions as s on s.id = m.session_uuid and s.deleting_at is null
  where m.id = p_model_id
  for update of m;
  if not found then
    perform private.raise_error(404, 'model_not_found');
  end if;
  return v_model;
end
$$;

-- Gives up a run that nobody works on any more, so that the session can be trained again.
create function private.give_up_run(p_run_id uuid) returns void
language plpgsql set search_path = ''
as $$
begin
  update public.models set
    status = 'failed', status_detail = 'The training was interrupted and not taken up again.',
    lease_token = null, lease_expires_at = null, updated_at = now()
  where run_id = p_run_id and status in ('queued', 'training', 'pending');
  update public.training_results
  set status = 'failed', failure = 'The training was interrupted and not taken up again.', finished_at = now()
  where id = p_run_id;
end
$$;

create function public.start_run_v1(p_owner uuid, p_session_id text, p_request jsonb, p_models jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_session public.sessions;
  v_run public.training_results;
  v_data_set jsonb;
  v_tasks jsonb;
begin
  select * into v_session from public.sessions
  where user_id = p_owner and session_id = p_session_id and deleting_at is null
  for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  select * into v_run from public.training_results
  where session_uuid = v_session.id and status in ('queued', 'running')
  for update;
  if found and v_run.request <> p_request then
    -- Somebody works on it: a task ran or was queued lately, or a lease is alive.
    if exists (
      select from public.models as m
      where m.run_id = v_run.id
        and (m.updated_at > now() - 6 * private.task_patience() or m.lease_expires_at > now())
    ) then
      perform private.raise_error(409, 'training_in_progress', jsonb_build_object('run_id', v_run.id));
    end if;
    perform private.give_up_run(v_run.id);
    update public.sessions set status = 'failed' where id = v_session.id returning * into v_session;
    v_run := null;
  end if;
  if v_run.id is null then
    if v_session.status not in ('finalized', 'trained', 'failed') then
      perform private.raise_error(409, 'session_not_finalized', jsonb_build_object('status', v_session.status));
    end if;
    perform private.require_subscription_v1(p_owner);
    select jsonb_agg(jsonb_build_object(
      'upload_id', u.id, 'file_name', u.file_name, 'content_type', u.content_type, 'object', u.object_name,
      'generation', u.generation, 'bytes', u.size_bytes, 'crc32c', u.crc32c, 'sha256', u.sha256, 'n_rows', u.n_rows
    ) order by u.created_at, u.id) into v_data_set
    from public.uploads as u
    where u.session_uuid = v_session.id and u.state = 'assembled' and u.n_rows is not null;
    if v_data_set is null then
      perform private.raise_error(422, 'data_set_invalid', jsonb_build_object(
        'message', 'The session has no table to train on.'));
    end if;
    insert into public.training_results (session_uuid, user_id, request, data_set)
    values (v_session.id, p_owner, p_request, v_data_set)
    returning * into v_run;
    insert into public.models (run_id, session_uuid, user_id, name, path, framework)
    select v_run.id, v_session.id, p_owner, n.name, v_run.id || '/' || n.name, n.framework
    from jsonb_to_recordset(p_models) as n (name text, framework text);
    update public.sessions set status = 'training', updated_at = now() where id = v_session.id;
  else
    -- The same request again: tasks that seem lost get a new number, so that the queue takes them as new.
    update public.models as m set tasks = m.tasks + 1, queued_at = now()
    where m.run_id = v_run.id and m.queued_at < now() - private.task_patience() and (
      m.status = 'queued'
      or m.status = 'training' and m.lease_expires_at <= now()
      or private.is_run_finished(v_run.id)
    );
  end if;
  -- Where all models are finished and the run is not, any of their tasks will finish it.
  select coalesce(jsonb_agg(jsonb_build_object('model_id', m.id, 'number', m.tasks)), '[]') into v_tasks
  from public.models as m
  where m.run_id = v_run.id and (
    m.status = 'queued'
    or m.status = 'training' and m.lease_expires_at <= now()
    or private.is_run_finished(v_run.id)
  );
  return jsonb_build_object('run', private.run_json(v_run.id), 'tasks', v_tasks);
end
$$;

create function public.claim_model_v1(p_model_id uuid, p_lease_token uuid, p_lease_s integer) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_model public.models := private.lock_model(p_model_id);
  v_outcome text := 'done';
begin
  if v_model.status = 'queued' or v_model.status = 'training'
    and (v_model.lease_expires_at <= now() or v_model.lease_token = p_lease_token)
  then
    if v_model.attempts >= private.max_training_attempts() and v_model.lease_token is distinct from p_lease_token then
      update public.models set
        status = 'failed', status_detail = format('The training was interrupted %s times.', v_model.attempts),
        lease_token = null, lease_expires_at = null, updated_at = now()
      where id = p_model_id;
    else
      v_outcome := 'claimed';
      update public.models set
        status = 'training',
        attempts = attempts + (lease_token is distinct from p_lease_token)::integer,
        progress = case when lease_token = p_lease_token then progress else 0 end,
        lease_token = p_lease_token,
        lease_expires_at = now() + make_interval(secs => p_lease_s),
        updated_at = now()
      where id = p_model_id;
      update public.training_results set status = 'running' where id = v_model.run_id and status = 'queued';
    end if;
  elsif v_model.status = 'training' then
    v_outcome := 'busy';
  end if;
  return jsonb_build_object(
    'outcome', v_outcome,
    'run', private.run_json(v_model.run_id, private.is_run_finished(v_model.run_id)),
    'is_run_finished', private.is_run_finished(v_model.run_id),
    'busy_s', case v_outcome when 'busy' then ceil(extract(epoch from v_model.lease_expires_at - now()))::integer end
  );
end
$$;

create function public.report_progress_v1(
  p_model_id uuid, p_lease_token uuid, p_lease_s integer, p_progress real
) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_model public.models := private.lock_model(p_model_id);
begin
  if v_model.status <> 'training' or v_model.lease_token <> p_lease_token then
    perform private.raise_error(409, 'lease_lost');
  end if;
  update public.models set
    progress = greatest(progress, p_progress),
    lease_expires_at = now() + make_interval(secs => p_lease_s),
    updated_at = now()
  where id = p_model_id;
end
$$;

create function public.release_model_v1(p_model_id uuid, p_lease_token uuid) returns void
language sql security definer set search_path = ''
as $$
  update public.models set status = 'queued', lease_token = null, lease_expires_at = null, updated_at = now()
  where id = p_model_id and status = 'training' and lease_token = p_lease_token
$$;

create function public.publish_model_v1(p_model_id uuid, p_lease_token uuid, p_published jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_model public.models := private.lock_model(p_model_id);
begin
  if v_model.published is distinct from p_published then
    if v_model.status <> 'training' or v_model.lease_token <> p_lease_token then
      perform private.raise_error(409, 'lease_lost');
    end if;
    update public.models set
      status = 'pending', progress = 1, published = p_published, class = p_published ->> 'class',
      files = p_published -> 'files', metrics = p_published -> 'metrics',
      lease_token = null, lease_expires_at = null, updated_at = now()
    where id = p_model_id;
  end if;
  return jsonb_build_object(
    'run', private.run_json(v_model.run_id, private.is_run_finished(v_model.run_id)),
    'is_run_finished', private.is_run_finished(v_model.run_id)
  );
end
$$;

create function public.fail_model_v1(p_model_id uuid, p_lease_token uuid, p_detail text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_model public.models := private.lock_model(p_model_id);
begin
  if v_model.status <> 'failed' then
    if v_model.status <> 'training' or v_model.lease_token <> p_lease_token then
      perform private.raise_error(409, 'lease_lost');
    end if;
    update public.models set
      status = 'failed', status_detail = p_detail, lease_token = null, lease_expires_at = null, updated_at = now()
    where id = p_model_id;
  end if;
  return jsonb_build_object(
    'run', private.run_json(v_model.run_id, private.is_run_finished(v_model.run_id)),
    'is_run_finished', private.is_run_finished(v_model.run_id)
  );
end
$$;

-- The rows that lists show, from the manifest's lists of the same names.
create function private.insert_results(p_run public.training_results, p_document jsonb) returns void
language sql set search_path = ''
as $$
  insert into public.scalers (run_id, session_uuid, user_id, position, content)
  select p_run.id, p_run.session_uuid, p_run.user_id, e.position, e.content
  from jsonb_array_elements(p_document -> 'scalers') with ordinality as e (content, position);
  insert into public.training_visualizations (run_id, session_uuid, user_id, position, content)
  select p_run.id, p_run.session_uuid, p_run.user_id, e.position, e.content
  from jsonb_array_elements(p_document -> 'charts') with ordinality as e (content, position);
  insert into public.evaluation_tables (run_id, session_uuid, user_id, position, content)
  select p_run.id, p_run.session_uuid, p_run.user_id, e.position, e.content
  from jsonb_array_elements(p_document -> 'tables') with ordinality as e (content, position);
$$;

create function public.complete_run_v1(p_run_id uuid, p_manifest jsonb, p_document jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_run public.training_results;
  v_status text;
begin
  perform from public.sessions as s
  where s.deleting_at is null
    and s.id = (select r.session_uuid from public.training_results as r where r.id = p_run_id)
  for update;
  if not found then
    perform private.raise_error(404, 'run_not_found');
  end if;
  select * into v_run from public.training_results where id = p_run_id for update;
  if v_run.status in ('completed', 'failed') then
    return private.run_json(p_run_id);
  end if;
  if not private.is_run_finished(p_run_id) then
    perform private.raise_error(409, 'training_in_progress', jsonb_build_object('run_id', p_run_id));
  end if;
  v_status := p_document ->> 'status';
  update public.training_results set
    status = v_status,
    manifest = p_manifest,
    failure = case v_status when 'failed' then 'No model could be trained.' end,
    finished_at = now()
  where id = p_run_id
  returning * into v_run;
  perform private.insert_results(v_run, p_document);
  update public.sessions set status = case v_status when 'completed' then 'trained' else 'failed' end, updated_at = now()
  where id = v_run.session_uuid;
  return private.run_json(p_run_id);
end
$$;

-- Takes in the manifest of a trainer of somebody else's. Its models wait in `pending` for their files to be checked.
create function public.record_run_v1(p_owner uuid, p_session_uuid uuid, p_manifest jsonb, p_document jsonb)
returns jsonb
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
      run_id, session_uuid, user_id, name, path, class, framework, status, status_detail, progress, published, files,
      metrics
    )
    select
      v_run_id, p_session_uuid, p_owner, e.m ->> 'name', v_run_id || '/' || (e.m ->> 'name'), e.m ->> 'class',
      e.m ->> 'framework', case e.m ->> 'status' when 'completed' then 'pending' else 'failed' end, e.m ->> 'detail', 1,
      e.m, coalesce(e.m -> 'files', '[]'), coalesce(e.m -> 'metrics', '{}')
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

-- Verdicts on models whose files were read: [{"model_id", "status": "ready" | "refused", "detail"}].
create function public.mark_models_v1(p_run_id uuid, p_verdicts jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
begin
  update public.models as m set
    status = v.status,
    status_detail = v.detail,
    saved_at = case v.status when 'ready' then now() end,
    updated_at = now()
  from jsonb_to_recordset(p_verdicts) as v (model_id uuid, status text, detail text)
  where m.id = v.model_id and m.run_id = p_run_id and m.status = 'pending' and v.status in ('ready', 'refused');
  return private.run_json(p_run_id);
end
$$;

revoke execute on function
private.max_training_attempts, private.task_patience, private.is_run_finished, private.run_json, private.lock_model,
private.give_up_run, private.insert_results, public.start_run_v1, public.claim_model_v1, public.report_progress_v1,
public.release_model_v1, public.publish_model_v1, public.fail_model_v1, public.complete_run_v1, public.record_run_v1,
public.mark_models_v1
from public, anon, authenticated;

grant execute on function
public.start_run_v1, public.claim_model_v1, public.report_progress_v1, public.release_model_v1,
public.publish_model_v1, public.fail_model_v1, public.complete_run_v1, public.record_run_v1, public.mark_models_v1
to service_role;
