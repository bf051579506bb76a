// What JavaScript's regular expressions do not know of Unicode: Bidi_Class and Joining_Type.
//
// The tables are of Unicode 17.0 (DerivedBidiClass.txt, DerivedJoiningType.txt), cut down to the code points that the PRECIS
// IdentifierClass allows, and each range runs over what is unassigned between two of its kind: callers check the
// class first. Everything else (`\p{…}`, case, normal forms) comes from the ICU in Node, whose version is
// `process.versions.unicode`. Should that be newer than these tables, a letter of a script added since counts as
// left-to-right and non-joining here; a test says so when it happens.

/** The version the tables below were cut from. */
export const TABLES_UNICODE = '17.0'

/** Bidi_Class=Right_To_Left. */
const R =
  '\\u05D0-\\u05F4\\u07C0-\\u07EA\\u07F4-\\u07FA\\u0800-\\u0815\\u081A\\u0824\\u0828\\u0840-\\u0858\\uFB1D\\uFB1F-\\uFB4F' +
  '\\u{10800}-\\u{10A00}\\u{10A10}-\\u{10A35}\\u{10A60}-\\u{10AE4}\\u{10B00}-\\u{10CF2}\\u{10D4A}-\\u{10D65}' +
  '\\u{10D6F}-\\u{10EA9}\\u{10EB0}-\\u{10EB1}\\u{10F00}-\\u{10F27}\\u{10F70}-\\u{10F81}\\u{10FB0}-\\u{10FF6}' +
  '\\u{1E800}-\\u{1E8C4}\\u{1E900}-\\u{1E943}\\u{1E94B}-\\u{1E959}'
/** Bidi_Class=Arabic_Letter. */
const AL =
  '\\u0620-\\u064A\\u066E-\\u066F\\u0671-\\u06D5\\u06E5-\\u06E6\\u06EE-\\u06EF\\u06FA-\\u0710\\u0712-\\u072F\\u074D-\\u07A5' +
  '\\u07B1\\u0860-\\u088F\\u08A0-\\u08C9\\uFB50-\\uFDFB\\uFE70-\\uFEFC\\u{10D00}-\\u{10D23}\\u{10EC2}-\\u{10EC7}' +
  '\\u{10F30}-\\u{10F45}\\u{1EE00}-\\u{1EEBB}'
/** Bidi_Class=Arabic_Number. */
const AN = '\\u0660-\\u0669\\u{10D30}-\\u{10D49}'
/** Bidi_Class=European_Number. */
const EN = '0-9\\u06F0-\\u06F9\\u{1CCF0}-\\u{1CCF9}\\u{1D7CE}-\\u{1D7FF}\\u{1FBF0}-\\u{1FBF9}'
/** Bidi_Class=European_Separator, Common_Separator, European_Terminator, Other_Neutral, Boundary_Neutral. */
const NEUTRAL =
  '\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E\\u00B7\\u02B9-\\u02BA\\u02C6-\\u02CF\\u02EC\\u0374-\\u0375' +
  '\\u200C-\\u200D\\u2E2F\\u30FB\\uA67F\\uA717-\\uA71F\\uA788'
/** Bidi_Class=Nonspacing_Mark: General_Category=Mn but for five vowel signs that are left-to-right. */
const NSM = '[\\p{Mn}--[\\u0CBF\\u0CC6\\u{11A07}\\u{11A08}\\u{11C3F}]]'

const RTL_LETTER = `${R}${AL}`

/** Some code point of class R, AL or AN: what makes a string subject to the Bidi Rule (RFC 5893 §1.4). */
export const HAS_RTL = new RegExp(`[${RTL_LETTER}${AN}]`, 'v')
/** RFC 5893 §2 (1) for a right-to-left label, (2), and (3): ends in R, AL, EN or AN and any marks. */
export const RTL_LABEL = new RegExp(
  `^[${RTL_LETTER}](?:[${RTL_LETTER}${AN}${EN}${NEUTRAL}${NSM}]*[${RTL_LETTER}${AN}${EN}])?${NSM}*$`,
  'v',
)
/** RFC 5893 §2 (1) for a left-to-right label, (5) and (6): ends in L or EN and any marks. */
export const LTR_LABEL = new RegExp(
  `^[^${RTL_LETTER}${AN}${EN}${NEUTRAL}${NSM}](?:[^${RTL_LETTER}${AN}]*[^${RTL_LETTER}${AN}${NEUTRAL}${NSM}])?${NSM}*$`,
  'v',
)
/** For RFC 5893 §2 (4): never both in one right-to-left label. */
export const HAS_EUROPEAN_NUMBER = new RegExp(`[${EN}]`, 'v')
export const HAS_ARABIC_NUMBER = new RegExp(`[${AN}]`, 'v')

/** Joining_Type=Dual_Joining or Left_Joining. */
const JOINS_LEFT =
  '\\u0620\\u0626\\u0628\\u062A-\\u062E\\u0633-\\u063F\\u0641-\\u0647\\u0649-\\u064A\\u066E-\\u066F\\u0678-\\u0687' +
  '\\u069A-\\u06BF\\u06C1-\\u06C2\\u06CC\\u06CE\\u06D0-\\u06D1\\u06FA-\\u06FC\\u06FF\\u0712-\\u0714\\u071A-\\u071D' +
  '\\u071F-\\u0727\\u0729\\u072B\\u072D-\\u072E\\u074E-\\u0758\\u075C-\\u076A\\u076D-\\u0770\\u0772\\u0775-\\u0777' +
  '\\u077A-\\u077F\\u07CA-\\u07EA\\u0841-\\u0845\\u0848\\u084A-\\u0853\\u0855\\u0860\\u0862-\\u0865\\u0868\\u0886' +
  '\\u0889-\\u088D\\u088F\\u08A0-\\u08A9\\u08AF-\\u08B0\\u08B3-\\u08B8\\u08BA-\\u08C8\\u1807\\u1820-\\u1878\\u1887-\\u18A8' +
  '\\u18AA\\uA840-\\uA872\\u{10AC0}-\\u{10AC4}\\u{10ACD}\\u{10AD3}-\\u{10ADC}\\u{10ADE}-\\u{10AE0}\\u{10AEB}-\\u{10AEE}' +
  '\\u{10B80}\\u{10B82}\\u{10B86}-\\u{10B88}\\u{10B8A}-\\u{10B8B}\\u{10B8D}\\u{10B90}\\u{10BAD}-\\u{10BAE}' +
  '\\u{10D00}-\\u{10D21}\\u{10D23}\\u{10EC3}-\\u{10EC4}\\u{10EC6}-\\u{10EC7}\\u{10F30}-\\u{10F32}\\u{10F34}-\\u{10F44}' +
  '\\u{10F51}-\\u{10F53}\\u{10F70}-\\u{10F73}\\u{10F76}-\\u{10F81}\\u{10FB0}\\u{10FB2}-\\u{10FB3}\\u{10FB8}' +
  '\\u{10FBB}-\\u{10FBC}\\u{10FBE}-\\u{10FBF}\\u{10FC1}\\u{10FC4}\\u{10FCA}-\\u{10FCB}\\u{1E900}-\\u{1E943}'
/** Joining_Type=Right_Joining. */
const JOINS_RIGHT_ONLY =
  '\\u0622-\\u0625\\u0627\\u0629\\u062F-\\u0632\\u0648\\u0671-\\u0673\\u0675-\\u0677\\u0688-\\u0699\\u06C0\\u06C3-\\u06CB' +
  '\\u06CD\\u06CF\\u06D2-\\u06D3\\u06D5\\u06EE-\\u06EF\\u0710\\u0715-\\u0719\\u071E\\u0728\\u072A\\u072C\\u072F\\u074D' +
  '\\u0759-\\u075B\\u076B-\\u076C\\u0771\\u0773-\\u0774\\u0778-\\u0779\\u0840\\u0846-\\u0847\\u0849\\u0854\\u0856-\\u0858' +
  '\\u0867\\u0869-\\u0882\\u088E\\u08AA-\\u08AC\\u08AE\\u08B1-\\u08B2\\u08B9\\u{10AC5}\\u{10AC7}\\u{10AC9}-\\u{10ACA}' +
  '\\u{10ACE}-\\u{10AD2}\\u{10ADD}\\u{10AE1}\\u{10AE4}\\u{10AEF}\\u{10B81}\\u{10B83}-\\u{10B85}\\u{10B89}\\u{10B8C}' +
  '\\u{10B8E}-\\u{10B8F}\\u{10B91}\\u{10BA9}-\\u{10BAC}\\u{10D22}\\u{10EC2}\\u{10F33}\\u{10F54}\\u{10F74}-\\u{10F75}' +
  '\\u{10FB4}-\\u{10FB6}\\u{10FB9}-\\u{10FBA}\\u{10FBD}\\u{10FC2}-\\u{10FC3}\\u{10FC9}'
/** Joining_Type=Left_Joining. */
const JOINS_LEFT_ONLY = '\\uA872\\u{10ACD}\\u{10AD7}\\u{10D00}\\u{10FCB}'

/** One code point of Joining_Type Transparent, among those that are allowed: marks, and one letter of Adlam. */
export const TRANSPARENT = /^[\p{Mn}\u{1E94B}]$/u
/** One code point of Joining_Type L or D. */
export const JOINS_NEXT = new RegExp(`^[${JOINS_LEFT}]$`, 'u')
/** One code point of Joining_Type R or D. */
export const JOINS_PREVIOUS = new RegExp(`^[[${JOINS_LEFT}${JOINS_RIGHT_ONLY}]--[${JOINS_LEFT_ONLY}]]$`, 'v')
