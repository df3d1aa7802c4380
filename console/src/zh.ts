// The words of the page in Chinese: one for every key of en.ts, or it does not compile.

import type { Key } from "./i18n";

export const zh: Record<Key, string> = {
  // everywhere
  "loading": "加载中…", "close": "关闭", "cancel": "取消", "copy": "复制", "copied": "已复制", "copy-failed": "浏览器不允许复制", "try-again": "重试",
  "none": "无", "never": "从未", "just-now": "刚刚", "ago": "{span}前", "as-of": "截至", "stale": "截至 {at} · {age}前的数据", "request": "请求", "menu": "菜单", "skip": "跳到内容",
  "name": "名称", "password": "密码", "token": "令牌", "code": "代码", "number": "数量", "kind": "类型", "state": "状态", "health": "健康", "node": "节点", "gateway": "网关", "backend": "后端",
  "alive": "正常", "lost-node": "失联", "lost": "服务器已有 {span} 没有应答。显示的是之前的数据；正在重试。",
  "not-found": "未找到", "not-found.title": "没有这个页面。",
  "rows.all": "共 {n} 条", "rows.some": "已加载 {n} 条，滚动加载更多", "rows.broken": "后面的数据没有到达，点此重试",
  "forbidden.title": "您没有此页面所需的权限", "forbidden.text": "{name} 没有以下任何权限：{scopes}。", "forbidden.advice": "请向管理员申请更高的角色，或使用具有其中一项权限的令牌登录。",

  // problems, and what to do
  "problem.lost": "服务器没有应答", "problem.page": "页面出错了", "problem.401": "未登录", "problem.403": "您无权这样做", "problem.404": "没有这个对象",
  "problem.409": "现在不能这样做（{code}）", "problem.422": "未被接受", "problem.429": "请求过多", "problem.other": "操作失败（{code}）",
  "advice.lost": "没有数据丢失。服务器恢复后会自动重新请求。", "advice.insecure": "请为后端配置证书，或在后端所在的机器上打开此页面。",
  "advice.403": "您的角色是{role}。请向管理员申请更多权限。", "advice.429": "请等待 {s} 秒后重试。", "advice.422": "请改正所指出的内容后重试。", "advice.500": "请重试。如果仍然失败，可凭请求号在服务器日志中查找。",

  // sign-in
  "sign-in": "登录", "sign-out": "退出", "sign-in.title": "运营中心", "sign-in.user": "用户", "sign-in.token": "API 令牌", "sign-in.ended": "会话已结束。请重新登录，您会回到原来的页面。",
  "sign-in.token-hint": "以 mtl_ 开头。只发送一次，不保存在浏览器中。", "sign-in.user-hint": "还没有用户？管理员可用此命令创建：backend user create",
  "sign-in.insecure": "在此登录不安全，会被拒绝", "sign-in.insecure-why": "此页面通过明文 HTTP 从另一台机器打开：密码或令牌会以明文经过网络。请使用 HTTPS：",
  "role.viewer": "查看者", "role.operator": "操作员", "role.admin": "管理员", "role.none": "无角色",
  "theme.dark": "深色", "theme.light": "浅色",

  // navigation
  "nav": "页面", "nav.overview": "总览", "nav.read": "立即抄表", "nav.operations": "操作记录", "nav.devices": "设备", "nav.groups": "分组", "nav.events": "事件与告警", "nav.letters": "死信", "nav.tokens": "令牌", "nav.audit": "审计",

  // states and codes
  "state.queued": "排队", "state.sent": "已发送", "state.delivered": "已送达", "state.accepted": "已受理", "state.succeeded": "成功", "state.failed": "失败", "state.expired": "过期", "state.cancelled": "已取消", "state.dead": "死信", "state.running": "进行中", "state.partial": "部分成功",
  "code.BUS_TIMEOUT": "电表在总线上没有应答", "code.BUS_ERROR": "总线故障", "code.CRC_ERROR": "应答已损坏", "code.NO_SUCH_METER": "工控机不认识此电表", "code.NO_SUCH_ITEM": "电表没有此数据项", "code.METER_REFUSED": "电表拒绝", "code.BUSY": "设备忙", "code.EXPIRED_AT_ENDPOINT": "到达太晚，未执行", "code.UNSUPPORTED_KIND": "设备不支持", "code.INTERNAL": "设备内部故障", "code.OTHER": "其他代码",

  // overview
  "overview.endpoints": "在线终端", "overview.offline": "{n} 台离线", "overview.presence-unknown": "暂时未知", "overview.readings": "读数", "overview.readings-per-minute": "每分钟读数", "overview.readings-chart": "最近一小时每分钟读数，共 {n} 条",
  "overview.last-hour": "最近一小时 {n} 条", "overview.success-rate": "成功率", "overview.rate-chart": "最近一小时成功率，总体 {rate}", "overview.of-ended": "最近一小时结束 {n} 项", "overview.ended-per-minute": "每分钟结束的操作", "overview.not-succeeded": "失败、过期或死信",
  "overview.oldest": "最久等待", "overview.open": "{open} 项未结束，{waiting} 项等待", "overview.backlog": "积压", "overview.backlog-note": "占上限 {share}，最早 {age}", "overview.no-backlog": "此处没有该日志", "overview.letters": "死信", "overview.letters-note": "等待处理", "overview.no-letters": "无待处理",
  "overview.failures": "最近一小时的失败代码", "overview.no-failures": "最近一小时没有失败", "overview.nodes": "网关与后端", "overview.load": "负载", "overview.connections": "{n} 个连接", "overview.partitions": "{n} 个分区", "overview.no-nodes": "没有网关登记",
};
