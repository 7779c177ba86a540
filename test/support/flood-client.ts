import { connect } from 'node:net';

// A program of its own, so that what it costs is not measured with what it attacks:
// node flood-client.ts PORT '{"slots":…,"send":"…","times":…,"addresses":…}'

export interface Flood {
  /** Connections at the same time; one that ends, or has an answer, is opened again. */
  slots: number;
  /** What each sends; HOST stands for the site's, LONG(n) for n bytes, UNIQUE for another word each time. */
  send: string;
  /** So many times. */
  times?: number;
  /** How many addresses they come from. */
  addresses?: number;
}

/** Longer than any test floods. */
const longestMs = 60_000;
/** Connections that are being opened at the same time. */
const mostOpening = 64;

if (process.argv[1] === import.meta.filename) {
  const [, , port, text = '{}'] = process.argv;
  const { slots, send, times = 1, addresses = 1 } = JSON.parse(text) as Flood;
  const bytes = send
    .replaceAll('HOST', `localhost:${port}`)
    .replaceAll(/LONG\((\d+)\)/g, (_all, length: string) => 'x'.repeat(Number(length)))
    .repeat(times);
  let [open, opening, count] = [0, 0, 0];
  const fill = () => {
    while (open < slots && opening < mostOpening) {
      open++;
      opening++;
      let isOpening = true;
      const opened = () => {
        if (isOpening) opening--;
        isOpening = false;
      };
      const localAddress = `127.0.1.${1 + (count++ % addresses)}`;
      const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress }, opened);
      socket.on('error', () => undefined);
      socket.once('data', () => socket.destroy());
      socket.once('close', () => {
        opened();
        open--;
        setImmediate(fill);
      });
      if (bytes !== '') socket.write(bytes.replaceAll('UNIQUE', String(count)));
    }
  };
  setInterval(fill, 10); // until it is killed, or nobody is left to do that
  setTimeout(() => process.exit(), longestMs).unref();
}
