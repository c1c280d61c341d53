import { useState } from "preact/hooks";
import { Icon, Mark } from "../components/icons";
import { Dialog } from "../components/parts";
import { authentication, configuration } from "../service";

/** Asks who is there; the first page of everybody who is not signed in. */
export function SignInPage() {
  const people = configuration().people ?? [];
  return (
    <main class="sign-in" id="main">
      <div>
        <div class="brand"><Mark size={32} /> Trainshed</div>
        <div class="stack tight">
          <h1>Sign in</h1>
          <p class="lead">Upload data sets, train models on them, take the models home.</p>
        </div>
        <SignInForm />
        {people.length > 0 ? (
          <div class="people">
            <p class="hint">This is a local stack. Its two users are ready:</p>
            {people.map(({ email, password }) => (
              <button type="button" class="button" key={email} onClick={() => void authentication().signIn(email, password)}>
                {email} <span class="mono">{password}</span>
              </button>
            ))}
          </div>
        ) : null}
      </div>
    </main>
  );
}

/** Asks again over the page where the sign-in has expired, so that nothing on it is lost. */
export function SignInAgain() {
  return (
    <Dialog title="Sign in again">
      <p>Your sign-in has expired. Uploads wait, and go on as soon as you are back.</p>
      <SignInForm />
      <button type="button" class="button quiet" onClick={() => void authentication().signOut()}>
        <Icon name="out" /> Sign out instead
      </button>
    </Dialog>
  );
}

function SignInForm() {
  const [fault, setFault] = useState<string | null>(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setFault(null);
    setFault(await authentication().signIn(String(fields.get("email")).trim(), String(fields.get("password"))));
    setBusy(false);
  };
  return (
    <form class="panel" onSubmit={(event) => void submit(event)}>
      <div class="field">
        <label for="email">E-mail</label>
        <input class="input" id="email" name="email" type="email" autocomplete="username" required aria-invalid={fault !== null} />
      </div>
      <div class="field">
        <label for="password">Password</label>
        <input class="input" id="password" name="password" type="password" autocomplete="current-password" required aria-invalid={fault !== null} aria-describedby="sign-in-fault" />
      </div>
      <p class="field-error" id="sign-in-fault" role="alert">{fault}</p>
      <button type="submit" class="button primary" disabled={busy}>{busy ? "Signing in …" : "Sign in"}</button>
    </form>
  );
}
