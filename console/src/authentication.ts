import { GoTrueClient, type Session } from "@supabase/auth-js";
import { computed, signal } from "@preact/signals";
import type { Configuration } from "./configuration";

/** Of Supabase: null is nobody, undefined is not known yet. */
const session = signal<Session | null | undefined>(undefined);

/** Whether requests wait for somebody to sign in again. */
export const needsSignInAgain = signal(false);

/** The signed-in person's e-mail; null is nobody, undefined is not known yet. */
export const person = computed(() => (session.value ? (session.value.user.email ?? "") : session.value));

/** Signs people in and keeps their token fresh. */
export class Authentication {
  readonly #auth: GoTrueClient;
  #waiting: Array<() => void> = [];
  #userId: string | null = null;

  constructor({ supabaseUrl, supabasePublishableKey }: Configuration) {
    this.#auth = new GoTrueClient({
      url: `${supabaseUrl}/auth/v1`,
      headers: { apikey: supabasePublishableKey },
      storageKey: "trainshed-auth",
      detectSessionInUrl: false,
    });
  }

  /** Find out who is signed in, also from other tabs. */
  async start(): Promise<void> {
    this.#auth.onAuthStateChange((event, found) => {
      if (event === "SIGNED_OUT" && needsSignInAgain.value) return;
      this.#adopt(found);
    });
    const { data } = await this.#auth.getSession();
    this.#adopt(data.session);
  }

  /** Return null, or the sentence that says why not. */
  async signIn(email: string, password: string): Promise<string | null> {
    const { data, error } = await this.#auth.signInWithPassword({ email, password });
    if (error) {
      if (error.code === "invalid_credentials") return "E-mail and password do not belong together. Try again.";
      return error.status ? error.message : "The sign-in service does not answer. Check the network, then try again.";
    }
    if (this.#userId !== null && data.user.id !== this.#userId && needsSignInAgain.value) {
      // What waits belongs to another person: begin anew rather than send it under the wrong name.
      location.reload();
      return null;
    }
    this.#adopt(data.session);
    needsSignInAgain.value = false;
    for (const go of this.#waiting.splice(0)) go();
    return null;
  }

  /** Sign out here. What was going on ends, because the page is loaded anew. */
  async signOut(): Promise<void> {
    await this.#auth.signOut({ scope: "local" });
    this.#userId = null;
    location.hash = "";
    location.reload();
  }

  /**
   * Return an access token. Where the sign-in has expired for good, ask for it again and wait.
   *
   * @param refused - the token that the service did not take
   */
  readonly token = async (refused?: string): Promise<string | null> => {
    for (;;) {
      const { data } = await this.#auth.getSession();
      const token = data.session?.access_token;
      if (token && token !== refused) return token;
      if (token) {
        const renewed = await this.#auth.refreshSession();
        if (renewed.data.session) return renewed.data.session.access_token;
      }
      if (this.#userId === null) return null;
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        needsSignInAgain.value = true;
      });
    }
  };

  #adopt(found: Session | null): void {
    if (found) this.#userId = found.user.id;
    if (session.value?.access_token !== found?.access_token || session.value === undefined) {
      if (found === null && this.#userId !== null && session.value) {
        // Expired, or signed out in another tab: what is on the screen stays until somebody signs in again.
        needsSignInAgain.value = true;
        return;
      }
      session.value = found;
    }
  }
}
