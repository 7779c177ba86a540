/** What one check found. */
export interface Finding {
  /** `FAIL`: something will not work. `warn`: it may not, or not for ever. */
  status: 'ok' | 'warn' | 'FAIL';
  /** The key of the configuration that this is about. */
  key: string;
  says: string;
  /** What to do about it; with every status but `ok`. */
  cure?: string;
}

export type Report = (finding: Finding) => void;

/** `FAIL  session.redis: WRONGPASS → correct the password`, a line a finding. */
export function formatFinding({ status, key, says, cure }: Finding): string {
  return `${status.padEnd(4)}  ${key}: ${says}${cure === undefined ? '' : ` → ${cure}`}`;
}
