import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { effect } from "@preact/signals";
import { needsSignInAgain, person } from "./authentication";
import { Icon, Mark, type IconName } from "./components/icons";
import { Empty, SkeletonRows, Toasts } from "./components/parts";
import { SignInAgain, SignInPage } from "./pages/sign-in";
import { SESSIONS, route, type Route } from "./routes";
import { authentication } from "./service";
import { THEMES, theme, type Theme } from "./theme";

export function App() {
  if (person.value === undefined) return null;
  return (
    <>
      {person.value === null ? <SignInPage /> : <Shell />}
      {needsSignInAgain.value ? <SignInAgain /> : null}
      <Toasts />
    </>
  );
}

/** Pages come when somebody is signed in, so that the sign-in page need not wait for them. */
type Pages = typeof import("./pages");

function Shell() {
  const [pages, setPages] = useState<Pages | null>(null);
  useEffect(() => {
    void import("./pages").then((loaded) => setPages(loaded));
  }, []);
  useEffect(
    () =>
      effect(() => {
        // A new page begins at its top, for eyes and for screen readers.
        void pageKey(route.value);
        scrollTo(0, 0);
      }),
    [],
  );
  return (
    <>
      <a class="skip" href="#main" onClick={toContent}>Skip to content</a>
      <header class="bar">
        <div>
          <a class="brand" href={SESSIONS}><Mark /> Trainshed</a>
          <div class="end">
            <span class="who" title={person.value ?? ""}>{person.value}</span>
            <ThemeButton />
            <button type="button" class="button quiet" onClick={() => void authentication().signOut()}>
              <Icon name="out" /> Sign out
            </button>
          </div>
        </div>
      </header>
      <main id="main" tabIndex={-1} key={pageKey(route.value)}>
        {pages ? <Page pages={pages} at={route.value} /> : <SkeletonRows rows={6} label="Loading" />}
      </main>
    </>
  );
}

function pageKey(at: Route): string {
  return at.page === "session" ? `session ${at.sessionId}` : at.page;
}

function Page({ pages, at }: { pages: Pages; at: Route }) {
  switch (at.page) {
    case "sessions":
      return <pages.SessionsPage />;
    case "new":
      return <pages.NewSessionPage />;
    case "session":
      return <pages.SessionPage sessionId={at.sessionId} tab={at.tab} />;
    case "unknown": {
      const Link: ComponentType = () => <a class="button primary" href={SESSIONS}>To the sessions</a>;
      return <Empty isAll title="There is no such page" act={<Link />}>The address has nothing behind it. It may have been cut off when it was copied.</Empty>;
    }
  }
}

function toContent(event: MouseEvent): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

const THEME_ICONS: Record<Theme, IconName> = { system: "system", light: "sun", dark: "moon" };
const THEME_NAMES: Record<Theme, string> = { system: "as the system", light: "light", dark: "dark" };

function ThemeButton() {
  const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
  const label = `Theme: ${THEME_NAMES[theme.value]}. Change to ${THEME_NAMES[next]}`;
  return (
    <button type="button" class="button quiet icon" aria-label={label} title={label} onClick={() => (theme.value = next)}>
      <Icon name={THEME_ICONS[theme.value]} />
    </button>
  );
}
