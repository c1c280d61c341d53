-- Local development only (`supabase db reset` and the local stack run it): the two dev users may upload.
select public.set_subscription_v1(u.id, 'team', 'active', date_trunc('month', now()), now() + interval '10 years')
from auth.users as u
where u.email in ('alice@example.com', 'bob@example.com');
