-- How far whoever assembles an upload has read the joined object. Only of interest while it is being assembled.

alter table public.uploads
add column verified_bytes bigint check (verified_bytes >= 0);

-- As before; an assembly that is taken up again begins to read at the start.
create or replace function public.claim_assembly_v1(
  p_owner uuid, p_upload_id uuid, p_lease_token uuid, p_lease_s integer
) returns jsonb
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
    verified_bytes = null,
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

-- Reports how many bytes were read. Whoever lost the lease learns it here, and need not read on.
create function public.report_verified_v1(
  p_owner uuid, p_upload_id uuid, p_lease_token uuid, p_verified_bytes bigint
) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update public.uploads set verified_bytes = p_verified_bytes, updated_at = now()
  where id = p_upload_id and user_id = p_owner and state = 'assembling' and lease_token = p_lease_token;
  if not found then
    perform private.raise_error(409, 'lease_lost');
  end if;
end
$$;

revoke execute on function public.report_verified_v1 from public, anon, authenticated;

grant execute on function public.report_verified_v1 to service_role;
