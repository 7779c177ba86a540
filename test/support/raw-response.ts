export type HeaderLine = [name: string, value: string];

/** One HTTP/1.1 response as it came over the wire. */
export interface RawResponse {
  status: number;
  reason: string;
  /** In order, with the case received. */
  headers: HeaderLine[];
  /** Values of one header, in order, whatever its case. */
  all(name: string): string[];
  /** First value of one header. */
  header(name: string): string | undefined;
  /** The body without its chunked framing. */
  bytes: Buffer;
  /** `bytes` as UTF-8. */
  body: string;
  json(): unknown;
  trailers: HeaderLine[];
  /** False when the connection ended (or the wait did) in the middle. */
  complete: boolean;
}

/** What the parser must know about the requests to find the ends of their responses. */
export interface ParseContext {
  /** The peer closed: a response without a length is complete then. */
  closed: boolean;
  /** Method of each request sent, for HEAD. */
  methods: string[];
}

/** Splits received bytes into responses; interim ones (1xx but 101) are in the list too. Bytes that are no HTTP end it. */
export function parseResponses(received: Buffer, { closed, methods }: ParseContext): RawResponse[] {
  const responses: RawResponse[] = [];
  let rest = received;
  let final = 0;
  while (rest.length > 0) {
    const headEnd = rest.indexOf('\r\n\r\n');
    if (headEnd < 0) break;
    const [statusLine = '', ...lines] = rest.toString('latin1', 0, headEnd).split('\r\n');
    const match = /^HTTP\/1\.[01] (\d{3}) ?(.*)$/.exec(statusLine);
    if (match === null) break;
    const status = Number(match[1]);
    const headers = lines.map(splitHeader);
    const framed = takeBody(rest.subarray(headEnd + 4), status, headers, methods[final] ?? 'GET', closed);
    responses.push(buildResponse(status, match[2] ?? '', headers, framed));
    rest = framed.rest;
    if (status >= 200 || status === 101) final++;
    if (!framed.complete) break;
  }
  return responses;
}

/** Splits `Name: value` at the first colon; a line without one has an empty value. */
export function splitHeader(line: string): HeaderLine {
  const colon = line.indexOf(':');
  return colon < 0 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).trim()];
}

/** All values of one header. */
export function headerValues(headers: HeaderLine[], name: string): string[] {
  const wanted = name.toLowerCase();
  return headers.filter(([each]) => each.toLowerCase() === wanted).map(([, value]) => value);
}

interface Framed {
  bytes: Buffer;
  trailers: HeaderLine[];
  complete: boolean;
  rest: Buffer;
}

const NOTHING = Buffer.alloc(0);

function takeBody(rest: Buffer, status: number, headers: HeaderLine[], method: string, closed: boolean): Framed {
  const bodiless = method === 'HEAD' || status < 200 || status === 204 || status === 304;
  if (status === 101) return { bytes: rest, trailers: [], complete: true, rest: NOTHING };
  if (bodiless) return { bytes: NOTHING, trailers: [], complete: true, rest };
  if (/chunked/i.test(headerValues(headers, 'transfer-encoding').join())) return takeChunks(rest);
  const length = headerValues(headers, 'content-length')[0];
  if (length === undefined) return { bytes: rest, trailers: [], complete: closed, rest: NOTHING };
  const end = Number(length);
  return { bytes: rest.subarray(0, end), trailers: [], complete: rest.length >= end, rest: rest.subarray(end) };
}

function takeChunks(start: Buffer): Framed {
  const chunks: Buffer[] = [];
  let rest = start;
  const unfinished = () => ({ bytes: Buffer.concat(chunks), trailers: [], complete: false, rest: NOTHING });
  for (;;) {
    const lineEnd = rest.indexOf('\r\n');
    if (lineEnd < 0) return unfinished();
    const size = Number.parseInt(rest.toString('latin1', 0, lineEnd), 16);
    if (Number.isNaN(size)) return unfinished();
    rest = rest.subarray(lineEnd + 2);
    if (size === 0) break;
    chunks.push(rest.subarray(0, size));
    if (rest.length < size + 2) return unfinished();
    rest = rest.subarray(size + 2);
  }
  const trailers: HeaderLine[] = [];
  for (;;) {
    const lineEnd = rest.indexOf('\r\n');
    if (lineEnd < 0) return unfinished();
    const line = rest.toString('latin1', 0, lineEnd);
    rest = rest.subarray(lineEnd + 2);
    if (line === '') return { bytes: Buffer.concat(chunks), trailers, complete: true, rest };
    trailers.push(splitHeader(line));
  }
}

function buildResponse(status: number, reason: string, headers: HeaderLine[], framed: Framed): RawResponse {
  const body = framed.bytes.toString('utf8');
  return {
    status,
    reason,
    headers,
    all: (name) => headerValues(headers, name),
    header: (name) => headerValues(headers, name)[0],
    bytes: framed.bytes,
    body,
    json: () => JSON.parse(body) as unknown,
    trailers: framed.trailers,
    complete: framed.complete,
  };
}
