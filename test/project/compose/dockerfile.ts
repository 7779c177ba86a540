import { readFileSync } from 'node:fs';

/** One instruction of a Dockerfile: `COPY --from=build /app/dist dist`. */
export interface Instruction {
  name: string;
  /** `--from=build` becomes `from` => `build`. */
  flags: Map<string, string>;
  /** The words of the exec form (`["node", "x"]`) or of the plain form. */
  words: string[];
  text: string;
}

export interface Stage {
  base: string;
  /** Of `FROM … AS name`; the last stage, the product itself, may have none. */
  name: string | undefined;
  instructions: Instruction[];
}

/** Reads the part of the Dockerfile language that this project's file uses; anything else is an error. */
export function readDockerfile(path: string): Stage[] {
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => !/^\s*#/.test(line))
    .join('\n')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const stages: Stage[] = [];
  for (const line of lines) {
    const [, name = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    if (!KNOWN.includes(name)) throw new Error(`${path}: this test does not know ${line}`);
    if (name === 'FROM') {
      const [base = '', , stageName] = rest.split(/\s+/);
      stages.push({ base, name: stageName, instructions: [] });
      continue;
    }
    const options = rest.matchAll(/(?:^|\s)--([a-z-]+)=(\S+)/g);
    const flags = new Map([...options].map(([, key = '', value = '']) => [key, value]));
    // The options of a RUN belong to its command.
    const text = name === 'RUN' ? rest : rest.replace(/^(--[a-z-]+=\S+\s+)+/, '');
    const command = name === 'HEALTHCHECK' ? text.replace(/^CMD\s+/, '') : text;
    const words = command.startsWith('[') ? (JSON.parse(command) as string[]) : command.split(/\s+/);
    stages.at(-1)?.instructions.push({ name, flags, words, text });
  }
  return stages;
}

const KNOWN = ['FROM', 'WORKDIR', 'COPY', 'RUN', 'ENV', 'USER', 'EXPOSE', 'HEALTHCHECK', 'CMD'];
