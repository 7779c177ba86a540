/**
 * Collects what is asked within one turn of the event loop and asks for all of it together.
 *
 * @param most how many go together; with 1 each goes alone, at once.
 */
export function createBatch<Question, Answer>(
  most: number,
  ask: (questions: Question[]) => Promise<Answer[]>,
): (question: Question) => Promise<Answer> {
  let waiting: Waiting<Question, Answer>[] = [];
  const flush = () => {
    const asked = waiting;
    waiting = [];
    for (let at = 0; at < asked.length; at += most) send(asked.slice(at, at + most));
  };
  const send = (asked: Waiting<Question, Answer>[]) => {
    ask(asked.map(({ question }) => question)).then(
      (answers) => {
        for (const [index, { resolve }] of asked.entries()) resolve(answers[index] as Answer);
      },
      (error: unknown) => {
        for (const { reject } of asked) reject(error);
      },
    );
  };
  return (question) => {
    if (most === 1) return ask([question]).then(([answer]) => answer as Answer);
    return new Promise((resolve, reject) => {
      // After everything that arrived in this turn was read.
      if (waiting.push({ question, resolve, reject }) === 1) setImmediate(flush);
    });
  };
}

interface Waiting<Question, Answer> {
  question: Question;
  resolve: (answer: Answer) => void;
  reject: (error: unknown) => void;
}
