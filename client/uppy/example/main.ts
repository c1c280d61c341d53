/** The smallest page that has everything: the Dashboard, Golden Retriever, and uploads into a session. */
import { createClient } from "@trainshed/client";
import { Trainshed } from "@trainshed/uppy";
import Uppy from "@uppy/core";
import "@uppy/core/css/style.min.css";
import Dashboard from "@uppy/dashboard";
import "@uppy/dashboard/css/style.min.css";
import GoldenRetriever from "@uppy/golden-retriever";

// Where the functions are, and who calls. A product takes the token of its Supabase session instead.
const page = new URL(location.href).searchParams;
const client = createClient({ baseUrl: page.get("url") ?? location.origin }, { getToken: () => page.get("token") });
const sessionId = page.get("session") ?? "uppy";

const uppy = new Uppy({ id: `trainshed-${sessionId}` })
  .use(Dashboard, { target: "#uploads", inline: true, proudlyDisplayPoweredByUppy: false })
  .use(GoldenRetriever)
  .use(Trainshed, {
    client,
    sessionId: async () => {
      await client.sessions.init(sessionId);
      return sessionId;
    },
  });
uppy.on("upload-success", (file, { body }) => console.info(`${file?.name}: ${JSON.stringify(body)}`));
