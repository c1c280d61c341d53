import "./styles/tokens.css";
import "./styles/fonts.css";
import "./styles/base.css";
import "./styles/components.css";
import "./styles/layout.css";
import "./styles/pages.css";
import { render } from "preact";
import { App } from "./app";
import { Mark } from "./components/icons";
import { ConfigurationError, loadConfiguration } from "./configuration";
import { connect } from "./service";

const place = document.getElementById("console");
if (!place) throw new Error("index.html lacks #console");

// What the first page is written in. It comes at the same time as everything else.
const FONTS = ['400 1em "IBM Plex Sans Variable"', '400 1em "IBM Plex Mono"'];
const FONTS_MS = 1000;
const fonts = Promise.race([
  Promise.allSettled(FONTS.map((font) => document.fonts.load(font))),
  new Promise((resolve) => setTimeout(resolve, FONTS_MS)),
]);

try {
  const authentication = connect(await loadConfiguration());
  await Promise.all([authentication.start(), fonts]);
  render(<App />, place);
} catch (error) {
  if (!(error instanceof ConfigurationError)) throw error;
  render(
    <main class="sign-in">
      <div>
        <div class="brand"><Mark size={32} /> Trainshed</div>
        <h1>This page cannot start</h1>
        <p role="alert">{error.message}</p>
      </div>
    </main>,
    place,
  );
}
