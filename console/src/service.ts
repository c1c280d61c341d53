import { createClient } from "@trainshed/client";
import { Authentication } from "./authentication";
import type { Configuration } from "./configuration";

export type Service = ReturnType<typeof createClient>;

let parts: { configuration: Configuration; authentication: Authentication; service: Service } | null = null;

/** Make what all pages talk to. Called once, before anything is drawn. */
export function connect(configuration: Configuration): Authentication {
  const authentication = new Authentication(configuration);
  const place = configuration.urls ? { urls: configuration.urls } : { baseUrl: configuration.baseUrl ?? "" };
  parts = { configuration, authentication, service: createClient(place, { getToken: authentication.token }) };
  return authentication;
}

function connected(): NonNullable<typeof parts> {
  if (!parts) throw new Error("connect() comes first");
  return parts;
}

export const configuration = (): Configuration => connected().configuration;
export const authentication = (): Authentication => connected().authentication;
export const service = (): Service => connected().service;
