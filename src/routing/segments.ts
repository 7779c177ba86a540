/**
 * What a segment of a path is to the most forgiving of those that read it. /%61dmin, /Admin, /admin;v=1 and /admin. are
 * /admin to many; /admin%3Fx and /admin%23x are to whom a proxy sends what it decoded, for the path ends there.
 */
export function plainSegment(segment: string): string {
  const [name = ''] = decodedSegment(segment).split(/[;?#]/, 1);
  let end = name.length;
  while (end > 0 && (name[end - 1] === '.' || name[end - 1] === ' ')) end--;
  return name.slice(0, end).toLowerCase() || segment;
}

/** Might this segment of a request be read as the wanted one? Both plain. */
export function isReadAs(wanted: string, segment: string | undefined): boolean {
  if (segment === undefined || segment === '') return false;
  if (wanted === segment) return true;
  // Frameworks take /refunds.geojson and /refunds.tar.gz for /refunds in another format, and OData /refunds(7) for one of
  // them (W10).
  return segment.startsWith(wanted) && /^\s*[.(]/.test(segment.slice(wanted.length));
}

/** What is not UTF-8 stays as it is. */
export function decodedSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
