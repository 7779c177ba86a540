/** What readiness asks: can this process do its work? (OP5) */
export interface HealthChecks {
  /** Throws when the session store can't be asked. */
  pingStore(): Promise<void>;
  /** True while requests are refused without asking the store, and a probe waits for its first answer. */
  isCircuitOpen(): boolean;
  isDraining(): boolean;
  onStoreStatus(isUp: boolean): void;
}

export interface Readiness {
  status: 200 | 503;
  body: { ready: boolean; store: 'up' | 'down' | 'probing'; draining: boolean };
}

/**
 * Ready while the store answers and nobody has asked us to stop. An authorization server that is down does not make a
 * replica unready: sessions go on, and taking all replicas away would log everybody out.
 */
export async function checkReadiness({
  pingStore,
  isCircuitOpen,
  isDraining,
  onStoreStatus,
}: HealthChecks): Promise<Readiness> {
  const isUp = await pingStore().then(
    () => true,
    () => false,
  );
  onStoreStatus(isUp);
  const draining = isDraining();
  const ready = isUp && !draining;
  const store = isUp ? 'up' : isCircuitOpen() ? 'probing' : 'down';
  return { status: ready ? 200 : 503, body: { ready, store, draining } };
}
