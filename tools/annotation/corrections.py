"""Readings that the dictionaries lack or have wrong, by Xiandai Hanyu Cidian (5th to 7th edition)."""

HANZI = """
嗯en4 哦o4 唉ai4 哩li5 塞sai4 哟yo5 哇wa5 剌la4 町ting3 耶ye1 卜bu3 勒le4 载zai4 肖xiao1 喽lou5 晃huang4 禅chan2 喔wo1
佛fo2 薄bao2 葛ge3 仆pu2 帖tie3 似si4 挣zheng4 长chang2 纥he2 沓ta4 拚pin1 率lv4 撩liao2 咯lo5 处chu4 翟zhai2 曲qu3
剥bao1 阙que4 幢chuang2 应ying1 丧sang4 干gan4 兴xing1 煞sha4 拽zhuai4 咳ke2 缝feng2 俟si4 削xiao1 椎zhui1 靓liang4
琢zhuo2 缪miu4 斗dou4 散san4 仔zai3 厦xia4 杷pa2 蠡li3 杠gang4 泊bo2 怔zheng4 茄qie2 掺chan1 藉jie4 掖ye4 予yu3 抹mo3
囤tun2 媛yuan2 茜xi1 铣xian3 隗wei3 苕tiao2 鹄hu2 鬲li4 窨yin4 圜yuan2 迤yi3 艮gen4 呐na5 供gong1 什shi2 傀kui3
揣chuai1 忒te4 褪tui4 凹ao1 晟sheng4 伺si4 子zi3 教jiao1 种zhong3 为wei2 倒dao4 差cha4 调tiao2 卷juan3 弹tan2 铺pu1
假jia3 累lei4 着zhe5 得de2 还hai2 相xiang1 的de5 血xue4 只zhi3 都dou1 行xing2 中zhong1 重zhong4 数shu4 几ji3 降jiang4
难nan2 朝chao2 地di4 了le5 和he2 间jian1 空kong1 笼long2 丽li4 燕yan4 糊hu2 朴pu3 粘zhan1 舍she3 冠guan1 汗han4
藏cang2 劲jin4 尽jin4 乐le4 没mei2 更geng4 将jiang1 转zhuan3 恶e4 奔ben1 夹jia1 场chang3 旋xuan2 涨zhang3 炸zha4
覃qin2 传chuan2 量liang4 背bei4 露lu4 划hua4 扎zha1 折zhe2 片pian4
伽jia1 匙chi2 啜chuo4 嚼jiao2 柞zuo4 湫qiu1 郇xun2 鹘hu2 骠piao4 隽jun4 镐hao4 阚kan4 蛤ge2 瀑pu4 曝bao4 脯fu3
爪zhua3 蹊xi1 崴wei1 裨pi2
"""
"""What a hanzi on its own is, unless what stands around it says otherwise."""

WORDS = """
地di4 栖息地 举办地 集结地 聚集地 纪念地 保护地 集中地 托管地 供应地 注册地 拍摄地 休闲地 休养地 三角地 集训地 闲置地
地di4 逆流地 轮休地
地di4 薄砂地 荫蔽地 胶粘地 马拉地 魏瓦地 拍摄地点
地de5 系统地 伤心地 平安地 轻快地 警觉地 诚心地 细心地 草率地 自愿地 静止地
长chang2 长效机制 长效 长年 长年累月 全长 长海 长山 长治 长陵
长zhang3 院长 检察长 议长 乡长 教育长 盟长 子长
子zi3 妻子儿女 菌子 原子 分子 电子 质子 中子 粒子 光子 离子
子zi5 肚子 妻子 老婆子 孩子 房子 桌子
肚du4 肚子 肚皮
肚du3 猪肚 羊肚
朴pu3 纯朴 简朴 质朴 淳朴 俭朴 古朴 诚朴 素朴 浑朴 拙朴 敦朴 醇朴 朴散 散朴 抱朴 惇朴 勤朴
载zai4 下载 载重 装载
载zai3 记载 刊载 登载
塞sai4 塞尔维亚 塞内加尔 塞舌尔 阿塞拜疆 塞浦路斯 巴塞罗那 塞拉利昂 西塞罗 安塞 斯宾塞
糊hu5 迷糊 含糊 模糊
姥lao5 姥爷
卜bo5 萝卜 胡萝卜 白萝卜 红萝卜
佛fu2 仿佛
射ye4 仆射 左仆射 右仆射 尚书仆射
俟qi2 万俟
牟mou2 释迦牟尼
得de2 夺得 所得 所得税 获得 取得 赢得
得de5 觉得 变得 显得 懂得 记得 晓得 舍得 免得 省得 使得 懒得 值得 舍不得 恨不得 怪不得 巴不得 了不得 要不得 由不得
得de5 多得很 算得 见得 引得
得de5 少不得 容不得 免不得 来不得 看不得 吃不得 使不得 说不得 怨不得 算不得 够得上 犯得上
得dei3 总得 必得 非得 还得 都得
得de2 只得 不得 难得 心得 应得 求得
片pian4 照片 相片 影片 唱片 图片
场chang3 登场 一场空
落luo4 落下 不落 日不落 出落
予yu3 不予 准予 给予 寄予 赋予 授予 予以 赐予
扛gang1 扛鼎
裨pi2 偏裨 裨将
框kuang4 框架
区qu1 老区
误wu4 延误
华hua2 华龙
果guo3 结果
结jie2 结果
的di4 的黎波里 巴尔的摩 波罗的海 亚的斯亚贝巴
的de5 美的
个ge5 这个 那个 哪个
这zhe4 这些 这个 这里
那na4 那些 那个 那里
露lou4 泄露
住zhu4 记住 守住
下xia4 坐下 撇下
上shang4 基本上 原则上 看上去 当上 挤上去
去qu4 带去 看上去
教jiao4 教学 教会 罗马教会
差cha4 最差 太差 极差 更差
调diao4 南水北调 调水 调察 赋调 调拨 外调 内调
调tiao2 下调 上调 微调 调休 回调
仔zai3 歌仔戏 产仔 打工仔 公仔
率shuai4 率众 率部 率同 率先 率领
阳yang2 朝阳区
朝chao2 朝阳区 朝阳门
藏zang4 武藏野 武藏 乌斯藏 卫藏 后藏 前藏 藏医 藏胞 藏袍 中藏 藏布 雅鲁藏布江 龙藏
色se4 褪色 套色 色达县 色酒
解jie3 解法
解xie4 浑身解数
大da4 御史大夫 士大夫 卿大夫 光禄大夫 谏议大夫 三闾大夫 五羖大夫 金紫光禄大夫 银青光禄大夫 太中大夫 中大夫
夫fu1 御史大夫 士大夫 卿大夫 光禄大夫 谏议大夫 三闾大夫 五羖大夫 金紫光禄大夫 银青光禄大夫 太中大夫 中大夫
尾wei3 马尾
盛sheng4 盛装 罗盛教 女体盛
薄bo2 薄膜 塑料薄膜 轻徭薄赋 轻薄无行 雕虫薄技 轻薄无礼 轻薄无知 薄唇轻言 日薄西山 西山日薄 德薄才鲜 寡情薄意
燕yan1 后燕 前燕 南燕 北燕 西燕 燕都 燕赵 燕京 燕山 燕郊
为wei2 为官 为本 为辅 会为 当为 应为 自称为 地为
为wei4 为民 为您服务 为你
扇shan4 一扇 两扇
少shao4 少傅 少保 少师 少君 少时
仔zi3 仔仔细细 仔细
阿a1 阿难
葛ge3 葛洲坝
仇qiu2 仇池
召shao4 召公
通tong1 四通 一通
发fa1 散发
分fen1 分拆
种zhong3 甲种 乙种
处chu4 用处 苦处 无处 好处 毫无用处 难处 错处 正处 分处 出处 下处 益处 坏处 害处 住处 去处
汗han2 蒙哥汗 可汗 伊儿汗 成吉思汗 喀喇汗
着zhe5 蒙着 引着 蒙着眼
着zhuo2 正着
着zhao2 睡着 睡着了
查cha2 查察 查讯 审查 体查 暗查 查查 核查 普查 搜查 追查 抽查 巡查 检查
查zha1 查理
都du1 昌都县 都拉斯 洪都 洪都拉斯 都柏林 西都 南都 东都 蜀都 仙都 鸿都买第 燕都 阿尔都塞 通都大邑 三都赋
行xing2 上行 成行 戎行 移行 串行 遂行
和he2 饱和点 鸾凤和鸣
血xue4 流血 采血 换血 鸡血石 血豆腐
熟shu2 煮熟
头tou5 势头 石头
秘bi4 秘鲁
蔓wan4 藤蔓
合he2 朝升暮合
车che1 丢卒保车
乘sheng4 千乘 万乘
分fen4 成分 部分 大部分 一部分 过分 充分
行xing2 言行 行不通
干gan1 白干 干丝
大da4 大仓 大山
夫fu1 赫鲁雪夫
扎zha1 扎扎实实
系xi4 系统 联系 关系 利害关系
系ji4 系鞋带 系上 解铃还需系铃人 解铃还须系铃人
"""
"""A hanzi and its reading, and the words in which it is read so; the rest of these words is as the dictionaries say."""

LOOSE = """
受降 三行 两行 几行 四行 八行 着手 着眼 一行 一场 大夫 不了 两场 这场 似的 一扇 教他 教我 教人 背着 还给 重重地
多行 教书 多重
"""
"""Words that are read by what stands around them, hanzi by hanzi."""
