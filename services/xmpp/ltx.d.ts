// The part of ltx that xml.ts uses; the package brings no types.

declare module 'ltx/src/parsers/ltx.js' {
  /** The tokeniser below ltx's own tree builder: names as written, values and text decoded. It checks nothing. */
  export default class SaxLtx {
    on(event: 'startElement', listener: (name: string, attrs: Record<string, string>) => void): this
    on(event: 'endElement', listener: (name: string) => void): this
    on(event: 'text', listener: (text: string) => void): this
    write(text: string): void
  }
}
