"""What the TypeScript clients of models that answer in pieces have besides; § stands for the model's name."""

#: The method before which ``STREAM`` stands.
BEFORE_STREAM = "  private async ask("

STREAM = """\
  /**
   * The answer to one row in pieces, each as soon as the model has made it.
   *
   * The pieces of a text are put one behind the other; any other piece holds the next values. Leaving the
   * loop over them closes the connection, which stops the model.
   *
   * @param row - as for `predict`.
   * @param call - a signal, or a timeout for all of it, which the server is told; without it the client's
   * is for the wait for each piece.
   * @throws §Error when there is no answer, or no more of it; it says why.
   */
  async *stream(row: §Row, call: §Call = {}): AsyncGenerator<§Answer, void, undefined> {
    const milliseconds = call.timeoutMs ?? this.timeoutMs;
    const headers: Record<string, string> = { ...this.headers, accept: "text/event-stream" };
    if (call.timeoutMs !== undefined) {
      headers["x-request-timeout-ms"] = String(Math.max(1, Math.floor(call.timeoutMs)));
    }
    const controller = new AbortController();
    const stop = (): void => controller.abort();
    if (call.signal?.aborted) stop();
    call.signal?.addEventListener("abort", stop);
    const whole = call.timeoutMs === undefined ? undefined : setTimeout(stop, milliseconds);
    let each = setTimeout(stop, milliseconds);
    try {
      const content = { input: row };
      const response = await this.send(this.url.replace(/predict$/, "stream"), {
        method: "POST",
        headers,
        body: JSON.stringify(content),
        signal: controller.signal,
      });
      if (response.status !== 200 || response.body === null) {
        throw refusal(response.status, parsed(await response.text(), response.status));
      }
      const of = {
        model: response.headers.get("x-model-name") ?? "",
        version: response.headers.get("x-model-version") ?? "",
        request_id: response.headers.get("x-request-id") ?? "",
      };
      for await (const [name, text] of events(response.body)) {
        clearTimeout(each);
        if (name === "end") return;
        const piece = parsed(text, 200);
        if (name === "error") throw refusal(200, piece);
        if (name === "") {
          if (!isRecord(piece) || !("prediction" in piece)) throw noAnswer(200);
          yield readAnswer(piece["prediction"], piece["probabilities"], of);
        }
        if (whole === undefined) each = setTimeout(stop, milliseconds);
      }
      throw new Error("it broke off");
    } catch (failure) {
      if (failure instanceof §Error) throw failure;
      if (call.signal?.aborted) throw call.signal.reason;
      const why = controller.signal.aborted ? "the time is over" : String(failure);
      throw new §Error(
        "server_unreachable",
        `${this.url} gave no whole answer (${why}); ${milliseconds} ms were allowed.`,
      );
    } finally {
      clearTimeout(whole);
      clearTimeout(each);
      call.signal?.removeEventListener("abort", stop);
      controller.abort();
    }
  }

"""

EVENTS = """
async function* events(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<readonly [string, string], void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let name = "";
  let data: string[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\\n");
    rest = lines.pop() ?? "";
    for (const whole of lines) {
      const line = whole.replace(/\\r$/, "");
      const end = line.indexOf(":");
      const field = end < 0 ? line : line.slice(0, end);
      const text = end < 0 ? "" : line.slice(end + 1).replace(/^ /, "");
      if (field === "event") name = text;
      else if (field === "data") data.push(text);
      else if (line === "") {
        if (data.length > 0) yield [name, data.join("\\n")];
        name = "";
        data = [];
      }
    }
  }
}

function parsed(text: string, status: number): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw noAnswer(status);
  }
}
"""
