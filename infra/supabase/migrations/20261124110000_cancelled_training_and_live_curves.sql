-- A training can be cancelled by its owner, and shows its learning curve while it runs.
--
-- Locks are taken in the order session, run, model, as in 20261123130000_training_and_results.sql.

alter table public.training_results drop constraint training_results_status_check;

alter table public.training_results add constraint training_results_status_check
check (status in ('queued', 'running', 'completed', 'failed', 'cancelled'));

alter table public.models drop constraint models_status_check;

alter table public.models add constraint models_status_check check (
  status in ('queued', 'training', 'pending', 'ready', 'failed', 'unsupported', 'refused', 'cancelled')
);

-- The curve has a bounded number of points (shared/learning_curves.py).
alter table public.models
add column curve jsonb not null default '{}',
add column remaining_s integer check (remaining_s >= 0);

-- As report_progress_v1, with the curve so far and the seconds that are probably left, where they are known.
create function public.report_progress_v2(
  p_model_id uuid, p_lease_token uuid, p_lease_s integer, p_progress real, p_curve jsonb, p_remaining_s integer
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
    curve = p_curve,
    remaining_s = p_remaining_s,
    lease_expires_at = now() + make_interval(secs => p_lease_s),
    updated_at = now()
  where id = p_model_id;
end
$$;

-- Cancels the run in progress: models that are not finished never will be, and the session can be trained again at
-- once. A task at work loses its lease with that. Models that were finished before are kept; the answer names a task
-- that publishes their manifest. Cancelling again answers the same run.
create function public.cancel_run_v1(p_owner uuid, p_session_id text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_session public.sessions;
  v_run public.training_results;
  v_is_new boolean;
  v_tasks jsonb := '[]';
begin
  select * into v_session from public.sessions
  where user_id = p_owner and session_id = p_session_id and deleting_at is null
  for update;
  if not found then
    perform private.raise_error(404, 'session_not_found');
  end if;
  select * into v_run from public.training_results
  where session_uuid = v_session.id
  order by status in ('queued', 'running') desc, created_at desc, id
  limit 1
  for update;
  if not found then
    perform private.raise_error(404, 'run_not_found');
  end if;
  if v_run.status in ('completed', 'failed') then
    perform private.raise_error(409, 'training_finished', jsonb_build_object(
      'run_id', v_run.id, 'status', v_run.status));
  end if;
  v_is_new := v_run.status <> 'cancelled';
  if v_is_new then
    update public.models set status = 'cancelled', lease_token = null, lease_expires_at = null, updated_at = now()
    where run_id = v_run.id and status in ('queued', 'training');
    update public.training_results set status = 'cancelled', finished_at = now() where id = v_run.id;
    update public.sessions set
      status = case
        when exists (
          select from public.training_results as r
          where r.session_uuid = v_session.id and r.status in ('completed', 'cancelled') and r.manifest is not null
        ) then 'trained'
        else 'finalized'
      end,
      updated_at = now()
    where id = v_session.id;
  end if;
  if v_run.manifest is null then
    -- Any finished model's task publishes what there is. The number is new, so that the queue takes it.
    with publisher as (
      update public.models set
        tasks = case when v_is_new or queued_at < now() - private.task_patience() then tasks + 1 else tasks end,
        queued_at = case when v_is_new or queued_at < now() - private.task_patience() then now() else queued_at end
      where id = (
        select m.id from public.models as m
        where m.run_id = v_run.id and m.published is not null
        order by m.created_at, m.name
        limit 1
      )
      returning id, tasks
    )
    select coalesce(jsonb_agg(jsonb_build_object('model_id', p.id, 'number', p.tasks)), '[]') into v_tasks
    from publisher as p;
  end if;
  return jsonb_build_object('run', private.run_json(v_run.id), 'tasks', v_tasks);
end
$$;

-- As before. A cancelled run stays cancelled: what its models published before is recorded, whatever the session does
-- now.
create or replace function public.complete_run_v1(p_run_id uuid, p_manifest jsonb, p_document jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_run public.training_results;
  v_status text := p_document ->> 'status';
begin
  perform from public.sessions as s
  where s.deleting_at is null
    and s.id = (select r.session_uuid from public.training_results as r where r.id = p_run_id)
  for update;
  if not found then
    perform private.raise_error(404, 'run_not_found');
  end if;
  select * into v_run from public.training_results where id = p_run_id for update;
  if v_run.status in ('completed', 'failed') or v_run.status = 'cancelled' and v_run.manifest is not null then
    return private.run_json(p_run_id);
  end if;
  if not private.is_run_finished(p_run_id) then
    perform private.raise_error(409, 'training_in_progress', jsonb_build_object('run_id', p_run_id));
  end if;
  if v_run.status = 'cancelled' then
    update public.training_results set manifest = p_manifest where id = p_run_id returning * into v_run;
    update public.sessions set status = 'trained', updated_at = now()
    where id = v_run.session_uuid and status in ('finalized', 'failed') and v_status = 'completed';
  else
    update public.training_results set
      status = v_status,
      manifest = p_manifest,
      failure = case v_status when 'failed' then 'No model could be trained.' end,
      finished_at = now()
    where id = p_run_id
    returning * into v_run;
    update public.sessions
    set status = case v_status when 'completed' then 'trained' else 'failed' end, updated_at = now()
    where id = v_run.session_uuid;
  end if;
  perform private.insert_results(v_run, p_document);
  return private.run_json(p_run_id);
end
$$;

revoke execute on function public.report_progress_v2, public.cancel_run_v1 from public, anon, authenticated;

grant execute on function public.report_progress_v2, public.cancel_run_v1 to service_role;
