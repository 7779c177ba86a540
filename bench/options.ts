import { parseArgs } from 'node:util';

export const usage = `npm run bench -- [options]

  --quick          fewer and shorter rounds: at most 90 s instead of at most 10 min
  --json           one JSON document on standard output instead of the table (npm run -s bench -- --json)
  --only A,B       only these rows; the bare proxy is measured in any case, because ratios are taken to it
  --rounds N       rounds instead of 7 (--quick: 3)
  --seconds S      length of one measurement instead of 3 (--quick: 1)
  --sessions N     logged-in sessions of each proxy that has any, instead of 50 (at most 200)
  --profile DIR    writes a CPU profile of every Node proxy into DIR, and says where their time went
  --patient        for a machine that others use too: waits for quiet moments and measures again what was
                   disturbed, for at most an hour
  --install        installs the peers that are missing with apt-get, and says what
  --help
`;

export interface BenchOptions {
  quick: boolean;
  json: boolean;
  /** Names of rows; all of them when absent. */
  only?: string[];
  rounds: number;
  seconds: number;
  sessions: number;
  /** Folder for CPU profiles. */
  profile?: string;
  patient: boolean;
  install: boolean;
  help: boolean;
  /** The whole run ends after this long, whatever it is at. */
  deadlineMs: number;
}

export type ParsedOptions = { ok: true; options: BenchOptions } | { ok: false; fault: string };

/** Reads the command line; `names` are the rows that there are. */
export function parseOptions(args: string[], names: readonly string[]): ParsedOptions {
  let values: ReturnType<typeof parseFlags>;
  try {
    values = parseFlags(args);
  } catch (error) {
    return { ok: false, fault: error instanceof Error ? error.message : String(error) };
  }
  const quick = values.quick === true;
  const rounds = wholeNumber(values.rounds, quick ? 3 : 7, 50);
  const seconds = wholeNumber(values.seconds, quick ? 1 : 3, 60);
  const sessions = wholeNumber(values.sessions, 50, 200);
  if (rounds === undefined) return { ok: false, fault: '--rounds takes a whole number from 1 to 50' };
  if (seconds === undefined) return { ok: false, fault: '--seconds takes a whole number from 1 to 60' };
  if (sessions === undefined) return { ok: false, fault: '--sessions takes a whole number from 1 to 200' };
  const only = values.only?.split(',').map((name) => name.trim());
  const unknown = only?.filter((name) => !names.includes(name)) ?? [];
  if (unknown.length > 0)
    return { ok: false, fault: `there is no row ${unknown.join(', ')}; there are ${names.join(', ')}` };
  return {
    ok: true,
    options: {
      quick,
      json: values.json === true,
      ...(only === undefined ? {} : { only }),
      rounds,
      seconds,
      sessions,
      ...(values.profile === undefined ? {} : { profile: values.profile }),
      patient: values.patient === true,
      install: values.install === true,
      help: values.help === true,
      deadlineMs: (values.patient === true ? 3600 : quick ? 90 : 600) * 1000,
    },
  };
}

function parseFlags(args: string[]) {
  return parseArgs({
    args,
    options: {
      quick: { type: 'boolean' },
      json: { type: 'boolean' },
      only: { type: 'string' },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      sessions: { type: 'string' },
      profile: { type: 'string' },
      patient: { type: 'boolean' },
      install: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values;
}

function wholeNumber(text: string | undefined, preset: number, most: number): number | undefined {
  if (text === undefined) return preset;
  const number = Number(text);
  return Number.isInteger(number) && number >= 1 && number <= most ? number : undefined;
}
