-- What lists show of what a model published: all but its files, metrics, scalers and charts, which are large or have
-- columns and lists of their own. One column, because PostgREST takes a third of a millisecond to read each
-- `published->name` of a select, which is longer than the database works on the whole list.

create function private.description_of(p_published jsonb) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_object_agg(p.key, p.value)
  from jsonb_each(case jsonb_typeof(p_published) when 'object' then p_published end) as p
  where p.value <> 'null' and p.key in (
    'task', 'signature', 'params', 'features', 'encoding', 'classes', 'series', 'baselines', 'next',
    'ignored_columns', 'split', 'check', 'environment', 'findings', 'imports', 'requirements'
  )
$$;

alter table public.models
add column description jsonb generated always as (private.description_of(published)) stored;

-- As before; who gets `published` needs no `description` beside it.
create or replace function private.run_json(p_run_id uuid, p_with_published boolean default false) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(r) - 'results' || jsonb_build_object(
    'session_id', s.session_id,
    'models', (
      select coalesce(jsonb_agg(
        case when p_with_published then to_jsonb(m) - 'description' else to_jsonb(m) - 'published' end
        order by m.created_at, m.name
      ), '[]')
      from public.models as m where m.run_id = r.id
    )
  )
  from public.training_results as r
  join public.sessions as s on s.id = r.session_uuid
  where r.id = p_run_id
$$;

revoke execute on function private.description_of from public, anon, authenticated;
