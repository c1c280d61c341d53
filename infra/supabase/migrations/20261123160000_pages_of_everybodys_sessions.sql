-- Service callers page through all users' sessions, newest first; sessions_newest_first begins with the user.

create index sessions_of_all_newest_first on public.sessions (created_at desc, id desc);
