import { randomBytes } from 'node:crypto';
import type { Browser } from '../browser.ts';
import { openRaw, type RawConnection } from '../raw-client.ts';
import type { World } from '../world.ts';

export interface FrameOptions {
  /** 1 text, 2 binary, 0 continuation, 8 close, 9 ping, 10 pong. */
  opcode?: number;
  payload?: Buffer | string;
  fin?: boolean;
  /** The three reserved bits, 0 to 7. */
  rsv?: number;
  masked?: boolean;
  /** What the header says, whatever the payload is. */
  length?: number;
}

/** The bytes of one frame of a client (RFC 6455 §5.2), also of one that is wrong. */
export function frame(options: FrameOptions = {}): Buffer {
  const { opcode = 1, payload = '', fin = true, rsv = 0, masked = true } = options;
  const data = Buffer.from(payload);
  const length = options.length ?? data.length;
  const size = length < 126 ? 0 : length < 65_536 ? 2 : 8;
  const head = Buffer.alloc(2 + size);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (masked ? 0x80 : 0) | (size === 0 ? length : size === 2 ? 126 : 127);
  if (size === 2) head.writeUInt16BE(length, 2);
  if (size === 8) head.writeBigUInt64BE(BigInt(length), 2);
  if (!masked) return Buffer.concat([head, data]);
  const mask = randomBytes(4);
  const hidden = Buffer.from(data.map((byte, index) => byte ^ (mask[index % 4] as number)));
  return Buffer.concat([head, mask, hidden]);
}

/** The lines of a handshake as Chromium writes them; `change` replaces (or with `null` leaves out) some. */
export function handshake(
  world: World,
  browser: Browser | undefined,
  change: Record<string, string | string[] | null> = {},
  requestLine = 'GET /api/orders/ws HTTP/1.1',
): string {
  const cookies = browser?.cookies().map(({ name, value }) => `${name}=${value}`) ?? [];
  const lines: Record<string, string | string[] | null> = {
    Host: new URL(world.origin).host,
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    Origin: world.origin,
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits',
    Cookie: cookies.length === 0 ? null : cookies.join('; '),
    ...change,
  };
  const text = Object.entries(lines).flatMap(([name, value]) =>
    value === null ? [] : [value].flat().map((one) => `${name}: ${one}`),
  );
  return [requestLine, ...text, '', ''].join('\r\n');
}

export interface RawWebSocket {
  connection: RawConnection;
  /** Head of the 101. */
  head: string;
  /** What came after it. */
  bytes(): Buffer;
  /** Code of the close frame, once it came; 1006 when the connection ended without one. */
  closeCode(timeoutMs?: number): Promise<number>;
}

/** An open WebSocket whose every byte is the test's. */
export async function openRawWebSocket(world: World, browser: Browser, path = '/api/orders/ws'): Promise<RawWebSocket> {
  const connection = await openRaw(world.port);
  await connection.write(handshake(world, browser, {}, `GET ${path} HTTP/1.1`));
  const head = (await connection.readUntil((text) => text.includes('\r\n\r\n'))).split('\r\n\r\n', 1)[0] ?? '';
  if (!head.startsWith('HTTP/1.1 101')) throw new Error(head);
  const bytes = () => connection.bytes().subarray(head.length + 4);
  return {
    connection,
    head,
    bytes,
    async closeCode(timeoutMs = 5000) {
      await connection.readUntil(() => findClose(bytes()) !== undefined, timeoutMs).catch(() => undefined);
      return findClose(bytes()) ?? 1006;
    },
  };
}

/** Walks over the frames of a server, which have no mask. */
function findClose(bytes: Buffer): number | undefined {
  for (let at = 0; at + 2 <= bytes.length; ) {
    const short = (bytes[at + 1] as number) & 0x7f;
    const size = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (at + 2 + size > bytes.length) return undefined;
    const length = size === 0 ? short : size === 2 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
    const data = at + 2 + size;
    if (((bytes[at] as number) & 0x0f) === 8 && data + length <= bytes.length)
      return length >= 2 ? bytes.readUInt16BE(data) : 1005;
    at = data + length;
  }
  return undefined;
}
