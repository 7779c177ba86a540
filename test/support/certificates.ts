import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What `node:tls` wants: PEM texts. */
export interface KeyAndCertificate {
  key: string;
  cert: string;
}

export interface Certificates {
  /** The certificate of the test authority: give it to the peer that shall trust `good`, `expired`, `wrongName`. */
  ca: string;
  /** Valid for localhost, *.localhost, 127.0.0.1, and *.behind.example, which only a forward proxy finds. */
  good: KeyAndCertificate;
  /** As `good`, but over since 2020. */
  expired: KeyAndCertificate;
  /** Valid, for another.example only. */
  wrongName: KeyAndCertificate;
  /** Right name, signed by itself. */
  selfSigned: KeyAndCertificate;
  /** A client certificate of the same authority, for mutual TLS. */
  client: KeyAndCertificate;
}

const OWN_NAMES = 'DNS:localhost,DNS:*.localhost,IP:127.0.0.1,DNS:*.behind.example';

/** Makes a throw-away authority and one certificate per fault with the `openssl` program. Takes about 0.2 s. */
export async function createCertificates(): Promise<Certificates> {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-tls-'));
  const openssl = (...args: string[]) => run('openssl', args, { cwd: folder });
  const read = (name: string) => readFile(join(folder, name), 'utf8');
  const pair = async (name: string) => ({ key: await read(`${name}.key`), cert: await read(`${name}.crt`) });

  async function request(name: string, subject: string, ...more: string[]) {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', `${name}.key`];
    await openssl(
      'req',
      '-batch',
      '-new',
      ...key,
      '-subj',
      `/CN=${subject}`,
      '-out',
      `${name}.${more.length ? 'crt' : 'csr'}`,
      ...more,
    );
  }

  async function issue(name: string, names: string, ...validity: string[]) {
    await request(name, names.split(/[:,]/)[1] ?? name);
    await writeFile(join(folder, `${name}.ext`), `subjectAltName=${names}\nbasicConstraints=CA:FALSE\n`);
    const files = ['-in', `${name}.csr`, '-extfile', `${name}.ext`, '-out', `${name}.crt`, '-notext'];
    // `openssl ca` and not `x509`: only it takes a start and an end date in OpenSSL 3.0.
    await openssl('ca', '-batch', '-config', 'ca.conf', ...files, ...validity);
    return pair(name);
  }

  try {
    await request(
      'ca',
      'Cloakroom test authority',
      '-x509',
      '-days',
      '2',
      '-addext',
      'basicConstraints=critical,CA:TRUE',
    );
    await request('self', 'localhost', '-x509', '-days', '2', '-addext', `subjectAltName=${OWN_NAMES}`);
    await writeFile(join(folder, 'index.txt'), '');
    await writeFile(join(folder, 'ca.conf'), AUTHORITY_CONFIG);
    return {
      ca: await read('ca.crt'),
      good: await issue('good', OWN_NAMES, '-days', '2'),
      expired: await issue('expired', OWN_NAMES, '-startdate', '20200101000000Z', '-enddate', '20200102000000Z'),
      wrongName: await issue('wrong', 'DNS:another.example', '-days', '2'),
      selfSigned: await pair('self'),
      client: await issue('client', 'DNS:cloakroom-client', '-days', '2'),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const AUTHORITY_CONFIG = `[ca]
default_ca=own
[own]
database=index.txt
new_certs_dir=.
certificate=ca.crt
private_key=ca.key
default_md=sha256
policy=any
rand_serial=yes
unique_subject=no
[any]
commonName=supplied
`;

/** The authority's certificate in a file, as configurations name it, in a folder that takes more of that kind. */
export async function writeCaFile({
  ca,
}: Certificates): Promise<{ folder: string; caFile: string; remove(): Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-ca-'));
  const caFile = join(folder, 'ca.pem');
  await writeFile(caFile, ca);
  return { folder, caFile, remove: () => rm(folder, { recursive: true, force: true }) };
}
