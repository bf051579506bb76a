import { describe, expect, test } from 'vitest'
import { html, json } from './html.ts'

describe('html', () => {
  test('values are escaped, in text and in attributes of either quote', () => {
    const value = `<b onclick='x' title="y">&amp;</b>`
    expect(html`<a title="${value}">${value}</a>`.text).toBe(
      '<a title="&lt;b onclick=&#39;x&#39; title=&quot;y&quot;&gt;&amp;amp;&lt;/b&gt;">' +
        '&lt;b onclick=&#39;x&#39; title=&quot;y&quot;&gt;&amp;amp;&lt;/b&gt;</a>',
    )
  })

  test('markup inside markup is not escaped again, lists are joined, and nothing is nothing', () => {
    expect(html`<p>${html`<b>${1}</b>`}${[html`<i/>`, html`<u/>`]}${undefined}</p>`.text).toBe('<p><b>1</b><i/><u/></p>')
  })
})

describe('json', () => {
  test('no value can end the script that it stands in, and it is the same value when read', () => {
    const value = { name: '</script><!--<script>' }
    const { text } = json(value)
    expect(text).not.toContain('<')
    expect(JSON.parse(text)).toEqual(value)
  })
})
