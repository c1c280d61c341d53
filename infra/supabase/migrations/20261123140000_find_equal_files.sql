-- An owner's equal file is found by its sha256, so that nothing is sent twice.

create index uploads_by_content on public.uploads (user_id, sha256, size_bytes) where state = 'assembled';

-- The owner's newest assembled upload of exactly this content, or null.
create function public.find_assembled_v1(p_owner uuid, p_sha256 text, p_size_bytes bigint) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select private.upload_json(u) from public.uploads as u
  join public.sessions as s on s.id = u.session_uuid
  where u.user_id = p_owner and u.sha256 = p_sha256 and u.size_bytes = p_size_bytes and u.state = 'assembled'
    and s.deleting_at is null
  order by u.created_at desc limit 1
$$;

revoke execute on function public.find_assembled_v1 from public, anon, authenticated;

grant execute on function public.find_assembled_v1 to service_role;
