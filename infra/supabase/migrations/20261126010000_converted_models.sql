-- Files that are made of a model on request: the old .h5 form of a Keras network that only Keras can write.
--
-- {status: pending | ready | unsupported | refused | failed, detail, finding, attempt, asked_at}; null until somebody
-- asks. Who converts knows nothing of the database: it leaves a report in the artifacts bucket, and what is found there
-- is recorded here (shared/conversions.py).

alter table public.models add column conversion jsonb;

-- As before, without what was made of the other files: a model's content does not change when it is converted.
create or replace function private.content_of(p_files jsonb) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_agg(jsonb_build_array(f ->> 'format', f ->> 'sha256') order by f ->> 'format', f ->> 'sha256')
  from jsonb_array_elements(p_files) as f
  where f ->> 'made_by' is distinct from 'converter'
$$;

-- Locks a model, after its session and run. One of a session that is being deleted is gone already.
create function private.lock_own_model(p_owner uuid, p_model_id uuid) returns public.models
language plpgsql set search_path = ''
as $$
declare
  v_model public.models;
begin
  perform from public.sessions as s
  where s.deleting_at is null and s.user_id = p_owner
    and s.id = (select m.session_uuid from public.models as m where m.id = p_model_id)
  for update;
  if not found then
    perform private.raise_error(404, 'model_not_found');
  end if;
  return private.lock_model(p_model_id);
end
$$;

-- Asks for a model's conversion, or says how far it is. An attempt that was not heard of for so long is followed by
-- another, up to three.
create function public.begin_conversion_v1(p_owner uuid, p_model_id uuid, p_patience_s integer) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_model public.models := private.lock_own_model(p_owner, p_model_id);
  v_conversion jsonb := v_model.conversion;
  v_attempt integer := coalesce((v_conversion ->> 'attempt')::integer, 0);
begin
  if v_conversion is null or (
    v_conversion ->> 'status' = 'pending'
    and (v_conversion ->> 'asked_at')::timestamptz < now() - make_interval(secs => p_patience_s)
  ) then
    v_conversion := case when v_attempt < 3
      then jsonb_build_object('status', 'pending', 'attempt', v_attempt + 1, 'asked_at', now())
      else jsonb_build_object(
        'status', 'failed', 'attempt', v_attempt, 'detail', 'It was tried three times, and no answer came.')
    end;
    update public.models set conversion = v_conversion, updated_at = now() where id = p_model_id;
  end if;
  return v_conversion;
end
$$;

-- Records how an attempt ended, and the file it made. Nothing happens if another attempt is under way or has ended.
create function public.finish_conversion_v1(
  p_owner uuid, p_model_id uuid, p_attempt integer, p_conversion jsonb, p_file jsonb default null
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_model public.models := private.lock_own_model(p_owner, p_model_id);
begin
  if v_model.conversion ->> 'status' = 'pending' and (v_model.conversion ->> 'attempt')::integer = p_attempt then
    update public.models set
      conversion = v_model.conversion || p_conversion,
      files = case when p_file is null then files else files || p_file end,
      updated_at = now()
    where id = p_model_id
    returning * into v_model;
  end if;
  return v_model.conversion;
end
$$;

revoke execute on function
private.lock_own_model, public.begin_conversion_v1, public.finish_conversion_v1
from public, anon, authenticated;

grant execute on function public.begin_conversion_v1, public.finish_conversion_v1 to service_role;
