"""What is the same in the TypeScript clients of all models; § stands for the model's name."""

RUNTIME = """
/** A value that does not fit: where it is, what was expected there, what came. */
export interface §Detail {
  readonly path: string;
  readonly expected: string;
  readonly got: string;
}

/** No answer, and why. */
export class §Error extends Error {
  /**
   * Stable, for programs: one of the server's codes, or `server_unreachable` (no answer in time),
   * `remote_error` (something that is no answer), `client_outdated` (another version of the model,
   * with other labels), `invalid_setting` (a url that is none).
   */
  readonly code: string;
  /** Of HTTP; 0 when there was no answer. */
  readonly status: number;
  /** Every value that does not fit. */
  readonly details: readonly §Detail[];
  /** Under which the server logged the request; may be empty. */
  readonly requestId: string;

  constructor(
    code: string,
    message: string,
    status: number = 0,
    details: readonly §Detail[] = [],
    requestId: string = "",
  ) {
    super(message);
    this.name = "§Error";
    this.code = code;
    this.status = status;
    this.details = details;
    this.requestId = requestId;
  }
}

/** What holds for all calls of a client. */
export interface §Options {
  /** Sent as `Authorization: Bearer`. */
  apiKey?: string;
  /** Milliseconds for a call, 30000 unless given; the server is told, and gives up then as well. */
  timeoutMs?: number;
  /** Ask for exactly this version of the model instead of whichever is deployed. */
  version?: number;
  /** Used instead of the global `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

/** What holds for one call. */
export interface §Call {
  /** Milliseconds for this call, instead of the client's. */
  timeoutMs?: number;
  /** Ends the call when it is aborted; the call then rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Asks a server for answers of the model. */
export class §Client {
  private readonly url: string;
  private readonly timeoutMs: number;
  private readonly headers: Readonly<Record<string, string>>;
  private readonly send: (url: string, init: RequestInit) => Promise<Response>;

  /**
   * @param url - of the server.
   * @param options - see there.
   * @throws §Error when the url is none.
   */
  constructor(url: string = "http://127.0.0.1:8000", options: §Options = {}) {
    if (!/^https?:[/][/][^/]/.test(url)) {
      throw new §Error("invalid_setting", `${url} is no address of a server.`);
    }
    const pinned = options.version === undefined ? "" : `/versions/${options.version}`;
    this.url = `${url.replace(/[/]+$/, "")}/models/${encodeURIComponent(MODEL)}${pinned}/predict`;
    this.timeoutMs = options.timeoutMs ?? 30000;
    const headers: Record<string, string> = {
      "content-type": "application/json",
      accept: "application/json",
    };
    if (options.apiKey !== undefined) headers["authorization"] = `Bearer ${options.apiKey}`;
    this.headers = headers;
    this.send = options.fetch ?? ((address, init) => fetch(address, init));
  }

  /**
   * The answer to one row.
   *
   * @param row - its values by name; what may be missing may be left out.
   * @param call - a timeout or a signal for this call.
   * @throws §Error when there is no answer; it says why.
   */
  async predict(row: §Row, call: §Call = {}): Promise<§Answer> {
    const content = await this.ask({ input: row }, call);
    if (!("prediction" in content)) throw noAnswer(200);
    return readAnswer(content["prediction"], content["probabilities"], content);
  }

  /**
   * The answers to several rows, in their order, from one request.
   *
   * @param rows - as for `predict`; no rows give no answers and ask nobody.
   * @param call - a timeout or a signal for this call.
   * @throws §Error when there is no answer; one row that does not fit refuses them all.
   */
  async predictMany(rows: readonly §Row[], call: §Call = {}): Promise<§Answer[]> {
    if (rows.length === 0) return [];
    const content = await this.ask({ inputs: rows }, call);
    const predictions = content["predictions"];
    if (!Array.isArray(predictions)) throw noAnswer(200);
    const probabilities = content["probabilities"];
    const chances: readonly unknown[] = Array.isArray(probabilities) ? probabilities : [];
    return predictions.map((prediction, index) => readAnswer(prediction, chances[index], content));
  }

  private async ask(content: object, call: §Call): Promise<Record<string, unknown>> {
    const milliseconds = call.timeoutMs ?? this.timeoutMs;
    const { status, text } = await this.exchange(JSON.stringify(content), milliseconds, call.signal);
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch {
      throw noAnswer(status);
    }
    if (status !== 200) throw refusal(status, answer);
    if (!isRecord(answer)) throw noAnswer(status);
    return answer;
  }

  private async exchange(
    body: string,
    milliseconds: number,
    signal: AbortSignal | undefined,
  ): Promise<{ status: number; text: string }> {
    const controller = new AbortController();
    const stop = (): void => controller.abort();
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop);
    const timer = setTimeout(stop, milliseconds);
    try {
      const headers = {
        ...this.headers,
        "x-request-timeout-ms": String(Math.max(1, Math.floor(milliseconds))),
      };
      const response = await this.send(this.url, {
        method: "POST",
        headers,
        body,
        signal: controller.signal,
      });
      return { status: response.status, text: await response.text() };
    } catch (failure) {
      if (signal?.aborted) throw signal.reason;
      const why = controller.signal.aborted ? "the time is over" : String(failure);
      throw new §Error(
        "server_unreachable",
        `${this.url} gave no answer (${why}); ${milliseconds} ms were allowed.`,
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function refusal(status: number, answer: unknown): §Error {
  const told = isRecord(answer) ? answer["error"] : undefined;
  if (!isRecord(told)) return noAnswer(status);
  const listed = told["details"];
  const details = (Array.isArray(listed) ? listed : []).filter(isRecord).map((each) => ({
    path: String(each["path"]),
    expected: String(each["expected"]),
    got: String(each["got"]),
  }));
  const requestId = String(told["request_id"] ?? "");
  return new §Error(String(told["code"]), String(told["message"]), status, details, requestId);
}

function noAnswer(status: number): §Error {
  const message = `Something that is no answer of a Servable server came (status ${status}).`;
  return new §Error("remote_error", message, status);
}
"""

#: Only where labels are listed.
OUTDATED = """
function outdated(labels: string): §Error {
  return new §Error(
    "client_outdated",
    `The model knows other labels than this client (${labels}); make the client anew, ` +
      `or ask for version ${VERSION}.`,
    200,
  );
}
"""

#: Besides, for a model that takes files.
CARRIED = """
/** A value as JSON carries it: the bytes of a file in base64. */
function carried(_key: string, value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  let text = "";
  for (const byte of value) text += String.fromCharCode(byte);
  return btoa(text);
}
"""
