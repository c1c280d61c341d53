/** XMLHttpRequest for Node, as far as uploads use it: sends by fetch, and tells half of the bytes as progress before. */

export class Xhr {
  /** Those that were made, in order. */
  static made: Xhr[] = [];
  readonly upload: { onprogress?: (event: { loaded: number }) => void } = {};
  onloadend?: () => void;
  status = 0;
  responseText = "";
  /** What only a header that may be read may be asked for. */
  asked: string[] = [];
  #request: [string, string] = ["", ""];
  readonly #headers: Record<string, string> = {};
  readonly #stop = new AbortController();
  #answered = new Headers();

  constructor() {
    Xhr.made.push(this);
  }

  open(method: string, url: string): void {
    this.#request = [method, url];
  }

  setRequestHeader(name: string, value: string): void {
    this.#headers[name] = value;
  }

  send(body: Blob): void {
    queueMicrotask(() => void this.#send(body));
  }

  abort(): void {
    this.#stop.abort();
  }

  getAllResponseHeaders(): string {
    return [...this.#answered].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  }

  getResponseHeader(name: string): string | null {
    this.asked.push(name);
    return this.#answered.get(name);
  }

  async #send(body: Blob): Promise<void> {
    const [method, url] = this.#request;
    this.upload.onprogress?.({ loaded: Math.floor(body.size / 2) });
    try {
      const answer = await fetch(url, { method, headers: this.#headers, body, signal: this.#stop.signal });
      this.responseText = await answer.text();
      this.#answered = answer.headers;
      this.status = answer.status;
      this.upload.onprogress?.({ loaded: body.size });
    } catch {
      this.status = 0;
    }
    this.onloadend?.();
  }
}
