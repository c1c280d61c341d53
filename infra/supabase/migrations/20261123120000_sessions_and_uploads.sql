-- Sessions, uploads, subscriptions and usage: tables, row-level security, and one versioned function per legal write.
--
-- Users read their own rows and write none. Every write is a function that only service_role may call; it is one
-- transaction and one legal transition, takes the owner as an argument, and may be repeated.
-- Errors are raised as SQLSTATE PT<HTTP status> with a code of shared/errors.py as message and JSON as detail.
-- Locks are taken in the order session, upload, usage, so that no two functions can wait for each other.

create schema if not exists private;

comment on schema private is 'Parts of the public functions; not exposed through PostgREST.';

create table public.sessions (
  id uuid primary key default gen_random_uuid(),
  -- No cascade: deleting a user must not orphan objects in the buckets. Delete the sessions first.
  user_id uuid not null references auth.users (id),
  session_id text not null check (session_id ~ '^[A-Za-z0-9._~:@-]{1,128}$' and session_id !~ '^\.+$'),
  status text not null default 'initialized' check (
    status in ('initialized', 'uploading', 'finalized', 'training', 'trained', 'failed')
  ),
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  n_dat bigint check (n_dat >= 0),
  deleting_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (user_id, session_id)
);

create index sessions_newest_first on public.sessions (user_id, created_at desc, id desc);

create index sessions_being_deleted on public.sessions (deleting_at) where deleting_at is not null;

create table public.uploads (
  id uuid primary key default gen_random_uuid(),
  session_uuid uuid not null references public.sessions (id) on delete cascade,
  user_id uuid not null references auth.users (id),
  file_name text not null check (length(file_name) between 1 and 255),
  content_type text not null check (length(content_type) between 1 and 127),
  size_bytes bigint check (size_bytes >= 0),
  reserved_bytes bigint not null check (reserved_bytes >= 0),
  chunk_size_bytes bigint not null check (chunk_size_bytes > 0),
  total_chunks integer not null check (total_chunks between 0 and 1024),
  is_legacy boolean not null default false,
  state text not null default 'open' check (
    state in ('open', 'assembling', 'assembled', 'failed', 'aborted', 'expiring', 'expired')
  ),
  sha256 text check (sha256 ~ '^[0-9a-f]{64}$'),
  object_name text,
  generation bigint,
  crc32c text,
  n_rows bigint check (n_rows >= 0),
  failure jsonb,
  lease_token uuid,
  lease_expires_at timestamptz,
  expires_at timestamptz not null,
  swept_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  check (state <> 'assembling' or (lease_token is not null and lease_expires_at is not null)),
  check (state <> 'assembled' or (object_name is not null and size_bytes is not null))
);

-- One live upload per file name of a session; failed, aborted and expired ones make room for another try.
create unique index uploads_live_file_name on public.uploads (session_uuid, file_name)
where state in ('open', 'assembling', 'assembled');

create index uploads_of_session on public.uploads (session_uuid, created_at);

create index uploads_of_user on public.uploads (user_id);

create index uploads_to_sweep on public.uploads (updated_at) where swept_at is null;

create table public.subscription_plans (
  id text primary key,
  title text not null,
  processing_limit integer not null check (processing_limit >= 0),
  bytes_stored_limit bigint not null check (bytes_stored_limit >= 0),
  bytes_per_upload_limit bigint not null check (bytes_per_upload_limit >= 0)
);

create table public.user_subscriptions (
  user_id uuid primary key references auth.users (id) on delete cascade,
  plan_id text not null references public.subscription_plans (id),
  status text not null check (status in ('active', 'canceled')),
  period_start timestamptz not null,
  period_end timestamptz not null,
  check (period_start < period_end)
);

create index user_subscriptions_of_plan on public.user_subscriptions (plan_id);

create table public.usage_counters (
  user_id uuid primary key references auth.users (id) on delete cascade,
  period_start timestamptz not null,
  processing_used integer not null default 0 check (processing_used >= 0),
  bytes_stored bigint not null default 0 check (bytes_stored >= 0)
);

alter table public.sessions enable row level security;

alter table public.uploads enable row level security;

alter table public.subscription_plans enable row level security;

alter table public.user_subscriptions enable row level security;

alter table public.usage_counters enable row level security;

create policy sessions_read_own on public.sessions for select to authenticated
using ((select auth.uid()) = user_id and deleting_at is null);

create policy uploads_read_own on public.uploads for select to authenticated
using ((select auth.uid()) = user_id);

create policy subscription_plans_read on public.subscription_plans for select to authenticated
using ((select auth.uid()) is not null);

create policy user_subscriptions_read_own on public.user_subscriptions for select to authenticated
using ((select auth.uid()) = user_id);

create policy usage_counters_read_own on public.usage_counters for select to authenticated
using ((select auth.uid()) = user_id);

revoke all on
public.sessions, public.uploads, public.subscription_plans, public.user_subscriptions, public.usage_counters
from anon, authenticated, service_role;

grant select on
public.sessions, public.uploads, public.subscription_plans, public.user_subscriptions, public.usage_counters
to authenticated, service_role;

-- An open upload lives this long after its client was last heard of.
create function private.upload_lifetime() returns interval
language sql immutable set search_path = ''
as $$ select interval '24 hours' $$;

create function private.session_json(p_session public.sessions) returns jsonb
language sql immutable set search_path = ''
as $$ select to_jsonb(p_session) $$;

create function private.upload_json(p_upload public.uploads) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(p_upload) || jsonb_build_object(
    'session_id', (select s.session_id from public.sessions as s where s.id = p_upload.session_uuid)
  )
$$;

create function private.raise_error(p_status integer, p_code text, p_details jsonb default '{}') returns void
language plpgsql set search_path = ''
as $$
begin
  raise exception using errcode = 'PT' || p_status, message = p_code, detail = p_details::text;
end
$$;

-- Returns the plan and period of an active subscription, or raises subscription_required.
create function private.require_subscription_v1(p_owner uuid) returns jsonb
language plpgsql set search_path = ''
as $$
declare
  v_subscription jsonb;
begin
  select to_jsonb(p) || to_jsonb(s) into v_subscription
  from public.user_subscriptions as s
  join public.subscription_plans as p on p.id = s.plan_id
  where s.user_id = p_owner and s.status = 'active' and now() >= s.period_start and now() < s.period_end;
  if v_subscription is null then
    perform private.raise_error(402, 'subscription_required');
  end if;
  return v_subscription;
end
$$;

-- Counts one upload against the owner's plan, or raises the limit that it would pass.
create function private.count_upload(p_owner uuid, p_bytes bigint) returns void
language plpgsql set search_path = ''
as $$
declare
  v_plan jsonb := private.require_subscription_v1(p_owner);
  v_usage public.usage_counters;
  v_resets_at timestamptz := (v_plan ->> 'period_end')::timestamptz;
begin
  if p_bytes > (v_plan ->> 'bytes_per_upload_limit')::bigint then
    perform private.raise_error(413, 'too_large', jsonb_build_object(
      'message', 'The file is larger than the plan takes.', 'limit', v_plan -> 'bytes_per_upload_limit'));
  end if;
  insert into public.usage_counters (user_id, period_start)
  values (p_owner, (v_plan ->> 'period_start')::timestamptz)
  on conflict (user_id) do nothing;
  select * into v_usage from public.usage_counters where user_id = p_owner for update;
  if v_usage.period_start < (v_plan ->> 'period_start')::timestamptz then
    v_usage.period_start := (v_plan ->> 'period_start')::timestamptz;
    v_usage.processing_used := 0;
  end if;
  if v_usage.processing_used >= (v_plan ->> 'processing_limit')::integer then
    perform private.raise_error(429, 'processing_limit_reached', jsonb_build_object(
      'limit', v_plan -> 'processing_limit', 'used', v_usage.processing_used, 'resetsAt', v_resets_at,
      'retry_after_s', ceil(extract(epoch from v_resets_at - now()))::bigint));
  end if;
  if v_usage.bytes_stored + p_bytes > (v_plan ->> 'bytes_stored_limit')::bigint then
    perform private.raise_error(403, 'storage_limit_reached', jsonb_build_object(
      'limit', v_plan -> 'bytes_stored_limit', 'used', v_usage.bytes_stored));
  end if;
  update public.usage_counters
  set period_start = v_usage.period_start,
      processing_used = v_usage.processing_used + 1,
      bytes_stored = v_usage.bytes_stored + p_bytes
  where user_id = p_owner;
end
$$;

-- Gives back what an upload that came to nothing had reserved. Its unit of processing returns only
-- within the period it was counted in.
create function private.free_upload(p_upload public.uploads) returns void
language sql set search_path = ''
as $$
  update public.usage_counters
  set bytes_stored = greatest(bytes_stored - p_upload.reserved_bytes, 0),
      processing_used = case
        when p_upload.created_at >= period_start then greatest(processing_used - 1, 0) else processing_used
      end
  where user_id = p_upload.user_id
$$;

create function public.init_session_v1(p_owner uuid, p_session_id text, p_metadata jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_session public.sessions;
begin
  insert into public.sessions (user_id, session_id, metadata) values (p_owner, p_session_id, p_metadata)
  on conflict (user_id, session_id) do nothing
  returning * into v_session;
  if not found then
    select * into v_session from public.sessions where user_id = p_owner and session_id = p_session_id;
    if not found or v_session.deleting_at is not null then
      perform private.raise_error(409, 'session_busy', jsonb_build_object(
        'message', 'A session of this name is being deleted; try again shortly.', 'retry_after_s', 5));
    end if;
  end if;
  return private.session_json(v_session);
end
$$;

create function public.finalize_session_v1(p_owner uuid, p_session_id text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_session public.sessions;
  v_unfinished jsonb;
begin
  select * into v_session from public.sessions
  where user_id = p_owner and session_id = p_session_id and deleting_at is null
  for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  if v_session.status not in ('initialized', 'uploading') then
    return private.session_json(v_session);
  end if;
  -- A failed upload counts as unfinished until it is aborted or another file of its name is assembled.
  select jsonb_agg(
    jsonb_build_object('uploadId', u.id, 'fileName', u.file_name, 'state', u.state) order by u.created_at
  ) into v_unfinished
  from public.uploads as u
  where u.session_uuid = v_session.id and (
    u.state in ('open', 'assembling')
    or u.state = 'failed' and not exists (
      select from public.uploads as o
      where o.session_uuid = u.session_uuid and o.file_name = u.file_name and o.state = 'assembled'
    )
  );
  if v_unfinished is not null then
    perform private.raise_error(409, 'uploads_unfinished', jsonb_build_object('uploads', v_unfinished));
  end if;
  update public.sessions set
    status = 'finalized',
    n_dat = (
      select coalesce(sum(u.n_rows), 0) from public.uploads as u
      where u.session_uuid = v_session.id and u.state = 'assembled'
    ),
    updated_at = now()
  where id = v_session.id
  returning * into v_session;
  return private.session_json(v_session);
end
$$;

create function public.begin_delete_session_v1(p_owner uuid, p_session_id text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_session public.sessions;
  v_upload public.uploads;
begin
  select * into v_session from public.sessions
  where user_id = p_owner and session_id = p_session_id
  for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  -- All at once: the loop fetches a few rows at a time, and locks the counters before it has come to the others.
  perform from public.uploads
  where session_uuid = v_session.id and state in ('open', 'assembling', 'expiring')
  order by id for update;
  for v_upload in
    select * from public.uploads
    where session_uuid = v_session.id and state in ('open', 'assembling', 'expiring')
    order by id
  loop
    if v_upload.state = 'assembling' and v_upload.lease_expires_at > now() then
      perform private.raise_error(409, 'session_busy', jsonb_build_object(
        'message', 'An upload of the session is being assembled; try again shortly.', 'retry_after_s', 5));
    end if;
    update public.uploads set state = 'aborted', lease_token = null, lease_expires_at = null, updated_at = now()
    where id = v_upload.id;
    perform private.free_upload(v_upload);
  end loop;
  update public.sessions set deleting_at = coalesce(deleting_at, now()), updated_at = now()
  where id = v_session.id;
  return jsonb_build_object(
    'id', v_session.id,
    'upload_ids', (
      select coalesce(jsonb_agg(u.id order by u.created_at), '[]') from public.uploads as u
      where u.session_uuid = v_session.id
    )
  );
end
$$;

create function public.finish_delete_session_v1(p_owner uuid, p_session_uuid uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_counts jsonb;
  v_freed_bytes bigint;
begin
  perform from public.sessions
  where id = p_session_uuid and user_id = p_owner and deleting_at is not null
  for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  select jsonb_build_object(
    'sessions', 1,
    'uploads', (select count(*) from public.uploads where session_uuid = p_session_uuid),
    'training_results', (select count(*) from public.training_results where session_uuid = p_session_uuid),
    'models', (select count(*) from public.models where session_uuid = p_session_uuid),
    'scalers', (select count(*) from public.scalers where session_uuid = p_session_uuid),
    'visualizations', (select count(*) from public.training_visualizations where session_uuid = p_session_uuid),
    'evaluation_tables', (select count(*) from public.evaluation_tables where session_uuid = p_session_uuid)
  ) into v_counts;
  select coalesce(sum(u.reserved_bytes), 0) into v_freed_bytes from public.uploads as u
  where u.session_uuid = p_session_uuid and u.state = 'assembled';
  -- Runs before the session, so that rows are locked in the order in which training locks them.
  delete from public.training_results where session_uuid = p_session_uuid;
  delete from public.sessions where id = p_session_uuid;
  update public.usage_counters set bytes_stored = greatest(bytes_stored - v_freed_bytes, 0) where user_id = p_owner;
  return v_counts;
end
$$;

create function public.deletions_to_finish_v1(p_max_age_hours integer, p_limit integer) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('owner', d.user_id, 'session_id', d.session_id)), '[]')
  from (
    select s.user_id, s.session_id from public.sessions as s
    where s.deleting_at < now() - make_interval(hours => least(p_max_age_hours, 1))
    order by s.deleting_at limit p_limit
  ) as d
$$;

create function public.create_upload_v1(
  p_owner uuid, p_session_id text, p_file_name text, p_content_type text, p_size_bytes bigint,
  p_reserved_bytes bigint, p_chunk_size_bytes bigint, p_total_chunks integer, p_sha256 text, p_is_legacy boolean
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_session public.sessions;
  v_upload public.uploads;
begin
  -- The lock orders this against finalize and delete: an upload is in before they look, or refused after.
  select * into v_session from public.sessions
  where user_id = p_owner and session_id = p_session_id and deleting_at is null
  for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  select * into v_upload from public.uploads
  where session_uuid = v_session.id and file_name = p_file_name and state in ('open', 'assembling', 'assembled');
  if found then
    if v_upload.is_legacy and p_is_legacy and v_upload.total_chunks = p_total_chunks
      or v_upload.state = 'open' and not v_upload.is_legacy and not p_is_legacy
      and v_upload.size_bytes = p_size_bytes and v_upload.sha256 is not distinct from p_sha256
    then
      return private.upload_json(v_upload) || jsonb_build_object('is_new', false);
    end if;
    perform private.raise_error(409, 'file_exists', jsonb_build_object(
      'uploadId', v_upload.id, 'state', v_upload.state, 'size', v_upload.size_bytes));
  end if;
  if v_session.status not in ('initialized', 'uploading') then
    perform private.raise_error(409, 'session_finalized', jsonb_build_object('status', v_session.status));
  end if;
  perform private.count_upload(p_owner, p_reserved_bytes);
  insert into public.uploads (
    session_uuid, user_id, file_name, content_type, size_bytes, reserved_bytes, chunk_size_bytes, total_chunks,
    sha256, is_legacy, expires_at
  ) values (
    v_session.id, p_owner, p_file_name, p_content_type, p_size_bytes, p_reserved_bytes, p_chunk_size_bytes,
    p_total_chunks, p_sha256, p_is_legacy, now() + private.upload_lifetime()
  ) returning * into v_upload;
  update public.sessions set status = 'uploading', updated_at = now() where id = v_session.id;
  return private.upload_json(v_upload) || jsonb_build_object('is_new', true);
end
$$;

create function public.extend_upload_v1(p_owner uuid, p_upload_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
begin
  update public.uploads set expires_at = now() + private.upload_lifetime(), updated_at = now()
  where id = p_upload_id and user_id = p_owner and state = 'open'
  returning * into v_upload;
  if not found then
    select * into v_upload from public.uploads where id = p_upload_id and user_id = p_owner;
    if not found then
      perform private.raise_error(404, 'upload_not_found');
    end if;
    perform private.raise_error(409, 'wrong_state', jsonb_build_object(
      'message', format('The upload is %s and takes no more chunks.', v_upload.state), 'state', v_upload.state));
  end if;
  return private.upload_json(v_upload);
end
$$;

create function public.claim_assembly_v1(p_owner uuid, p_upload_id uuid, p_lease_token uuid, p_lease_s integer)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
  v_outcome text := 'claimed';
begin
  update public.uploads set
    state = 'assembling',
    lease_token = p_lease_token,
    lease_expires_at = now() + make_interval(secs => p_lease_s),
    updated_at = now()
  where id = p_upload_id and user_id = p_owner and (
    state = 'open'
    or state = 'assembling' and (lease_expires_at <= now() or lease_token = p_lease_token)
  )
  returning * into v_upload;
  if not found then
    select * into v_upload from public.uploads where id = p_upload_id and user_id = p_owner;
    if not found then
      perform private.raise_error(404, 'upload_not_found');
    end if;
    v_outcome := case v_upload.state when 'assembled' then 'done' when 'assembling' then 'busy' end;
    if v_outcome is null then
      perform private.raise_error(409, 'wrong_state', jsonb_build_object(
        'message', format('The upload is %s and cannot be assembled.', v_upload.state),
        'state', v_upload.state, 'failure', v_upload.failure));
    end if;
  end if;
  return jsonb_build_object('outcome', v_outcome, 'upload', private.upload_json(v_upload));
end
$$;

create function public.release_assembly_v1(p_owner uuid, p_upload_id uuid, p_lease_token uuid) returns void
language sql security definer set search_path = ''
as $$
  update public.uploads set state = 'open', lease_token = null, lease_expires_at = null, updated_at = now()
  where id = p_upload_id and user_id = p_owner and state = 'assembling' and lease_token = p_lease_token
$$;

create function public.record_assembly_v1(
  p_owner uuid, p_upload_id uuid, p_lease_token uuid, p_object_name text, p_generation bigint, p_size_bytes bigint,
  p_crc32c text, p_sha256 text, p_n_rows bigint
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
  v_reserved bigint;
begin
  select * into v_upload from public.uploads where id = p_upload_id and user_id = p_owner for update;
  if not found then
    perform private.raise_error(404, 'upload_not_found');
  end if;
  if v_upload.state = 'assembled' and v_upload.object_name = p_object_name and v_upload.generation = p_generation then
    return private.upload_json(v_upload);
  end if;
  if v_upload.state <> 'assembling' or v_upload.lease_token <> p_lease_token then
    perform private.raise_error(409, 'lease_lost');
  end if;
  v_reserved := v_upload.reserved_bytes;
  update public.uploads set
    state = 'assembled', object_name = p_object_name, generation = p_generation, size_bytes = p_size_bytes,
    reserved_bytes = p_size_bytes, crc32c = p_crc32c, sha256 = coalesce(p_sha256, sha256), n_rows = p_n_rows,
    lease_token = null, lease_expires_at = null, updated_at = now()
  where id = p_upload_id
  returning * into v_upload;
  -- A legacy upload reserved an estimate; from now on its real size counts.
  update public.usage_counters set bytes_stored = greatest(bytes_stored - v_reserved + p_size_bytes, 0)
  where user_id = p_owner and v_reserved <> p_size_bytes;
  return private.upload_json(v_upload);
end
$$;

create function public.fail_assembly_v1(p_owner uuid, p_upload_id uuid, p_lease_token uuid, p_failure jsonb)
returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
begin
  update public.uploads set
    state = 'failed', failure = p_failure, lease_token = null, lease_expires_at = null, updated_at = now()
  where id = p_upload_id and user_id = p_owner and state = 'assembling' and lease_token = p_lease_token
  returning * into v_upload;
  if not found then
    perform private.raise_error(409, 'lease_lost');
  end if;
  perform private.free_upload(v_upload);
  return private.upload_json(v_upload);
end
$$;

create function public.abort_upload_v1(p_owner uuid, p_upload_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
begin
  select * into v_upload from public.uploads where id = p_upload_id and user_id = p_owner for update;
  if not found then
    perform private.raise_error(404, 'upload_not_found');
  end if;
  if v_upload.state not in ('open', 'failed', 'aborted') then
    perform private.raise_error(409, 'wrong_state', jsonb_build_object(
      'message', format('The upload is %s and cannot be aborted.', v_upload.state), 'state', v_upload.state));
  end if;
  -- A failed upload has given its quota back already.
  if v_upload.state = 'open' then
    perform private.free_upload(v_upload);
  end if;
  if v_upload.state <> 'aborted' then
    update public.uploads set state = 'aborted', updated_at = now() where id = p_upload_id returning * into v_upload;
  end if;
  return private.upload_json(v_upload);
end
$$;

create function public.begin_sweep_v1(p_max_age_hours integer, p_limit integer, p_dry_run boolean) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_stale_before timestamptz := now() - make_interval(hours => p_max_age_hours);
  -- Finished uploads wait a little, so that the call that finished them can delete for itself.
  v_finished_before timestamptz := now() - make_interval(hours => least(p_max_age_hours, 1));
  v_uploads jsonb;
begin
  with due as (
    select u.id, u.updated_at as silent_since from public.uploads as u
    where u.swept_at is null and (
      u.state = 'expiring'
      or u.state = 'open' and u.updated_at <= v_stale_before
      or u.state = 'assembling' and u.updated_at <= v_stale_before and u.lease_expires_at <= now()
      or u.state in ('assembled', 'failed', 'aborted') and u.updated_at <= v_finished_before
    )
    order by u.updated_at limit p_limit
    for update skip locked
  ),
  moved as (
    update public.uploads as u
    set state = 'expiring', lease_token = null, lease_expires_at = null, updated_at = now()
    from due
    where u.id = due.id and not p_dry_run and u.state in ('open', 'assembling')
    returning u.*
  )
  select coalesce(jsonb_agg(private.upload_json(d.upload) order by d.silent_since), '[]') into v_uploads
  from (
    select m::public.uploads as upload, due.silent_since from moved as m join due on due.id = m.id
    union all
    select u, due.silent_since from public.uploads as u join due on due.id = u.id
    where u.id not in (select m.id from moved as m)
  ) as d;
  return v_uploads;
end
$$;

create function public.finish_sweep_v1(p_upload_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
begin
  select * into v_upload from public.uploads
  where id = p_upload_id and swept_at is null and state in ('expiring', 'assembled', 'failed', 'aborted')
  for update;
  if not found then
    return;
  end if;
  -- A file counts as modified when it was assembled, not when its chunks were cleared away.
  update public.uploads set
    state = case state when 'expiring' then 'expired' else state end,
    swept_at = now(),
    updated_at = case state when 'expiring' then now() else updated_at end
  where id = p_upload_id;
  if v_upload.state = 'expiring' then
    perform private.free_upload(v_upload);
  end if;
end
$$;

-- Billing tells us here what a user has paid for.
create function public.set_subscription_v1(
  p_owner uuid, p_plan_id text, p_status text, p_period_start timestamptz, p_period_end timestamptz
) returns void
language sql security definer set search_path = ''
as $$
  insert into public.user_subscriptions (user_id, plan_id, status, period_start, period_end)
  values (p_owner, p_plan_id, p_status, p_period_start, p_period_end)
  on conflict (user_id) do update set
    plan_id = excluded.plan_id, status = excluded.status,
    period_start = excluded.period_start, period_end = excluded.period_end
$$;

revoke execute on all functions in schema public from public, anon, authenticated;

revoke execute on all functions in schema private from public, anon, authenticated;

grant execute on function
public.init_session_v1, public.finalize_session_v1, public.begin_delete_session_v1, public.finish_delete_session_v1,
public.deletions_to_finish_v1, public.create_upload_v1, public.extend_upload_v1, public.claim_assembly_v1,
public.release_assembly_v1, public.record_assembly_v1, public.fail_assembly_v1, public.abort_upload_v1,
public.begin_sweep_v1, public.finish_sweep_v1, public.set_subscription_v1
to service_role;

insert into public.subscription_plans (id, title, processing_limit, bytes_stored_limit, bytes_per_upload_limit)
values
('free', 'Free', 20, 5368709120, 1073741824),
('team', 'Team', 10000, 10995116277760, 5497558138880);
