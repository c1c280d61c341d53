-- A call that is repeated because its answer was lost must get the first answer, and an upload whose assembly died can
-- be given up at once.

-- As before, but repeating it with the same failure returns the same upload instead of lease_lost.
create or replace function public.fail_assembly_v1(
  p_owner uuid, p_upload_id uuid, p_lease_token uuid, p_failure jsonb
) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
begin
  select * into v_upload from public.uploads where id = p_upload_id and user_id = p_owner for update;
  if v_upload.state = 'failed' and v_upload.failure = p_failure then
    return private.upload_json(v_upload);
  end if;
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

-- As before, but an upload whose assembly died, its lease run out, can be aborted too.
create or replace function public.abort_upload_v1(p_owner uuid, p_upload_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_upload public.uploads;
  v_is_open boolean;
begin
  select * into v_upload from public.uploads where id = p_upload_id and user_id = p_owner for update;
  if not found then
    perform private.raise_error(404, 'upload_not_found');
  end if;
  v_is_open := v_upload.state = 'open' or v_upload.state = 'assembling' and v_upload.lease_expires_at <= now();
  if not v_is_open and v_upload.state not in ('failed', 'aborted') then
    perform private.raise_error(409, 'wrong_state', jsonb_build_object(
      'message', format('The upload is %s and cannot be aborted.', v_upload.state), 'state', v_upload.state));
  end if;
  -- A failed upload has given its quota back already.
  if v_is_open then
    perform private.free_upload(v_upload);
  end if;
  if v_upload.state <> 'aborted' then
    update public.uploads
    set state = 'aborted', lease_token = null, lease_expires_at = null, updated_at = now()
    where id = p_upload_id
    returning * into v_upload;
  end if;
  return private.upload_json(v_upload);
end
$$;
