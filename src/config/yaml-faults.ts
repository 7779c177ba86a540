import type { ErrorCode } from 'yaml';

/**
 * What is wrong with YAML, in our words: the parser's own quote the text around the fault, and that may be a secret
 * without quotes, a tag or an anchor that was meant as a value (L6, W15).
 */
const words: Partial<Record<ErrorCode, string>> = {
  ALIAS_PROPS: 'an alias has an anchor or tag',
  BAD_ALIAS: 'an alias or anchor has no proper name',
  BAD_COLLECTION_TYPE: 'a tag does not fit what it stands at',
  BAD_DIRECTIVE: 'a line that begins with % is a directive, and not a known one',
  BAD_DQ_ESCAPE: 'an unknown escape in double quotes',
  BAD_INDENT: 'the indentation does not fit',
  BAD_PROP_ORDER: 'an anchor or tag stands in the wrong place',
  BAD_SCALAR_START: 'a value begins with a character that needs quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a value stands where a key was expected',
  BLOCK_IN_FLOW: 'a block inside brackets',
  DUPLICATE_KEY: 'a key stands there twice, and keys must be unique',
  KEY_OVER_1024_CHARS: 'a key is too long',
  MISSING_CHAR: 'a quote, bracket, comma, colon or space is missing',
  MULTILINE_IMPLICIT_KEY: 'a key runs over several lines',
  MULTIPLE_ANCHORS: 'two anchors at one value',
  MULTIPLE_DOCS: 'there are several documents',
  MULTIPLE_TAGS: 'two tags at one value',
  NON_STRING_KEY: 'a key is no text',
  TAB_AS_INDENT: 'a tab in the indentation',
  TAG_RESOLVE_FAILED: 'Unresolved tag',
  UNEXPECTED_TOKEN: 'something stands where nothing was expected',
};

export function yamlFault(code: ErrorCode): string {
  return `is not valid YAML: ${words[code] ?? 'it can’t be read here'}: correct the line, or quote the value`;
}
