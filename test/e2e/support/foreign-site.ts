import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Another site: whatever stands under 127.0.0.1 is foreign to `localhost`. */
export interface ForeignSite {
  origin: string;
  /** The body of its one page. */
  body: string;
  stop(): Promise<void>;
}

export async function startForeignSite(): Promise<ForeignSite> {
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'text/html').end(`<!doctype html><body>${site.body}</body>`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const site: ForeignSite = {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    body: '',
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return site;
}
