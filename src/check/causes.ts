/** Why nothing came of a connection, and what helps. */
export interface Cause {
  says: string;
  cure: string;
}

const causes: [codes: RegExp, cause: Cause][] = [
  [
    /^(ENOTFOUND|EAI_\w+|ENODATA|ESERVFAIL)$/,
    {
      says: 'the name is not known here',
      cure: 'correct the host, or the DNS of this machine; where only a forward proxy leads out, set HTTPS_PROXY',
    },
  ],
  [/^ECONNREFUSED$/, { says: 'nothing listens there', cure: 'start it, or correct host and port' }],
  [
    /^(ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT|timeout)$/,
    {
      says: 'no answer in time',
      cure: 'open the way to it (firewall, network policy), correct host and port, or look whether it hangs',
    },
  ],
  [
    /^(EHOSTUNREACH|ENETUNREACH|EHOSTDOWN|ENETDOWN|EACCES|EPERM)$/,
    { says: 'there is no way to it', cure: 'correct the address, or the network or permissions of this machine' },
  ],
  [/^ENOENT$/, { says: 'there is no such socket', cure: 'start the API, or correct the path of its socket' }],
  [
    /^(ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH)$/,
    {
      says: 'its certificate is for another name',
      cure: 'use a host name that stands in the certificate, or have it issued for this one',
    },
  ],
  [
    /^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/,
    { says: 'its certificate is not valid now', cure: 'renew it there, or set the clock of this machine' },
  ],
  [
    /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_\w+|CERT_\w+)$/,
    {
      says: 'its certificate is of an authority that is not trusted here',
      cure: 'set caFile to the certificate of that authority, or let the server send its intermediates',
    },
  ],
  [
    /^(ERR_SSL_TLSV1\w*ALERT\w*|ERR_SSL_SSLV3_ALERT\w*|ERR_SSL_TLSV13_ALERT\w*)$/,
    {
      says: 'it ended the TLS handshake',
      cure: 'show it the certificate that it asks for (clientCertificate), or look for its reason there',
    },
  ],
  [
    /^(ERR_SSL_\w+|EPROTO)$/,
    { says: 'it does not speak TLS there', cure: 'correct the port, or the scheme of the URL' },
  ],
  [
    /^(ECONNRESET|EPIPE|UND_ERR_SOCKET|connection closed)$/,
    {
      says: 'it hung up',
      cure: 'correct port and scheme (TLS or not); behind TLS it may want a certificate of ours',
    },
  ],
  [
    /^FORWARD_PROXY_407$/,
    { says: 'the forward proxy wants credentials', cure: 'put user and password into HTTPS_PROXY (HTTP_PROXY)' },
  ],
  [
    /^FORWARD_PROXY_[45]\d\d$/,
    {
      says: 'the forward proxy does not connect us',
      cure: 'let it allow CONNECT to this host and port, or name the host in NO_PROXY if it is reached directly',
    },
  ],
];

/** `code`: of an error of the network, of TLS, or of a forward proxy. */
export function causeOf(code: string): Cause {
  const cause = causes.find(([codes]) => codes.test(code))?.[1];
  if (cause !== undefined) return { ...cause, says: `${cause.says} (${code})` };
  const proxied = /^FORWARD_PROXY_(.+)$/.exec(code)?.[1];
  if (proxied !== undefined) {
    const { says } = causeOf(proxied);
    return { says: `the forward proxy is not reached: ${says}`, cure: 'correct HTTPS_PROXY (HTTP_PROXY), or start it' };
  }
  return { says: `no connection (${code})`, cure: 'look up the code, and try the same with openssl s_client or nc' };
}
