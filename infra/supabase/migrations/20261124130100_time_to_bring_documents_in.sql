-- A document of 100 MiB takes about as long to bring in as a statement may take by default (8 s), one of 240 MiB 20 s.
alter function public.import_legacy_results_v1(uuid, text, jsonb, text) set statement_timeout = '240s';
