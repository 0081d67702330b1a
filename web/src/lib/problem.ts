// RFC 9457 problem details: how the server says what went wrong, turned into something a person can act on.

export interface ProblemDetails {
  readonly type?: string;
  readonly title?: string;
  readonly status?: number;
  readonly detail?: string;
  /** The input at fault, where there is one. */
  readonly field?: string;
}

/** A refusal by the server. `status` 0 never occurs: a request that got no answer is a `NetworkError`. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly problem: ProblemDetails;
  readonly retryAfterMs: number | undefined;

  constructor(status: number, problem: ProblemDetails, retryAfterMs?: number) {
    super(problem.detail ?? problem.title ?? `The server answered ${status}.`);
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }

  get field(): string | undefined {
    return this.problem.field;
  }
}

/** The request never got an answer: server down, network gone, or blocked by the browser. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";
  constructor() {
    super("The server cannot be reached. Check that it runs and that this device is online.");
  }
}

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";

/** Reads problem details from a body that may be anything at all. */
export function parseProblem(
  body: string,
  contentType: string | null,
  status: number,
): ProblemDetails {
  if (contentType?.includes("json")) {
    try {
      const value: unknown = JSON.parse(body);
      if (typeof value === "object" && value !== null) {
        const record = value as Record<string, unknown>;
        return {
          status,
          ...(isText(record.type) ? { type: record.type } : {}),
          ...(isText(record.title) ? { title: record.title } : {}),
          ...(isText(record.detail) ? { detail: record.detail } : {}),
          ...(isText(record.field) ? { field: record.field } : {}),
        };
      }
    } catch {
      // Fall through: a body that lies about its type says nothing.
    }
  }
  const plain = body.trim();
  const short = contentType?.startsWith("text/plain") && plain !== "" && plain.length <= 200;
  return short ? { status, detail: plain } : { status };
}

/** `/channels/0/url`, `destinations[0].url` and `url` all point at the input called "url". */
export function fieldName(field: string | undefined): string | undefined {
  return field
    ?.split(/[/.[\]]+/)
    .filter(Boolean)
    .at(-1);
}

/** The reason alone, for display at its field: servers begin a detail with the field's name. */
export function fieldMessage(error: ApiError): string {
  const text = error.message;
  const field = error.field;
  const prefix =
    field === undefined
      ? undefined
      : [field, fieldName(field)].find((name) => text.startsWith(`${name}: `));
  return prefix === undefined ? text : text.slice(prefix.length + 2);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
