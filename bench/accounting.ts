import { readdirSync, readFileSync } from 'node:fs';

/** What a process group used so far, by the kernel's own accounting. */
export interface Usage {
  /** User and system time of all processes and threads, ended children included; milliseconds, in steps of 10. */
  cpuMs: number;
  /** Resident memory of all its processes; pages that they share are counted for each. */
  rssBytes: number;
}

/** USER_HZ: the unit of /proc/PID/stat is a hundredth of a second on every Linux that Node runs on. */
const tickMs = 10;
const pageBytes = 4096;

/** Sums up every process of the group: all workers of nginx and Apache, all workers of Cloakroom. */
export function readUsage(group: number): Usage {
  let [ticks, pages] = [0, 0];
  for (const { pid, fields } of processesOf(group)) {
    ticks += (fields[11] ?? 0) + (fields[12] ?? 0);
    // Children that ended meanwhile are in the account of the process that waited for them.
    if (pid === group) ticks += (fields[13] ?? 0) + (fields[14] ?? 0);
    pages += fields[21] ?? 0;
  }
  return { cpuMs: ticks * tickMs, rssBytes: pages * pageBytes };
}

/** Calls the function and says by how much the memory of the group was above what it is now, at most. */
export async function rssGrowth(group: number, during: () => Promise<unknown>): Promise<number> {
  const before = readUsage(group).rssBytes;
  let most = before;
  const look = () => {
    most = Math.max(most, readUsage(group).rssBytes);
  };
  const timer = setInterval(look, 50);
  try {
    await during();
    look();
  } finally {
    clearInterval(timer);
  }
  return most - before;
}

/** The processes of a group that run now. */
export function processesOf(group: number): { pid: number; fields: number[] }[] {
  return readdirSync('/proc').flatMap((name) => {
    const fields = /^\d+$/.test(name) ? readStat(Number(name)) : undefined;
    return fields?.[2] === group ? [{ pid: Number(name), fields }] : [];
  });
}

/** The numbers after the name in /proc/PID/stat: [1] parent, [2] group, [11] utime, [12] stime, … (proc(5)). */
function readStat(pid: number): number[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
  } catch {
    return undefined; // ended since the folder was read
  }
}

/** How long one processor, or with `''` all of them, worked until now, for whomever, and how long the hypervisor gave it to another machine; milliseconds. */
export function readCore(core: string): { busyMs: number; stolenMs: number } {
  const line = readFileSync('/proc/stat', 'utf8')
    .split('\n')
    .find((text) => text.startsWith(`cpu${core} `));
  const [user = 0, nice = 0, system = 0, , , , , steal = 0] = (line ?? '').split(/\s+/).slice(1).map(Number);
  return { busyMs: (user + nice + system) * tickMs, stolenMs: steal * tickMs };
}
